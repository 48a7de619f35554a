#include "simt/report.h"

#include <cxxabi.h>
#include <dlfcn.h>
#include <execinfo.h>

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>

#include "simt/machine.h"

namespace simt {
namespace {

// What addr2line says about these addresses, line by line.
std::vector<std::string> addr2line(const char* options, void* const* addresses, int count) {
  std::vector<std::string> lines;
  std::map<std::string, std::string> commands;  // a program or library, and the addresses in it
  for (int i = 0; i < count; i++) {
    Dl_info info;
    if (!addresses[i] || !dladdr(addresses[i], &info)) continue;
    auto& command = commands[info.dli_fname];
    if (command.empty()) command = format("addr2line %s -e '%s'", options, info.dli_fname);
    command += format(" 0x%zx", static_cast<char*>(addresses[i]) - static_cast<char*>(info.dli_fbase));
  }
  for (auto& [file, command] : commands) {
    FILE* output = popen((command + " 2>/dev/null").c_str(), "r");
    char line[4096];
    while (output && fgets(line, sizeof line, output)) lines.emplace_back(line, strcspn(line, "\n"));
    if (output) pclose(output);
  }
  return lines;
}

}  // namespace

std::string format(const char* pattern, ...) {
  char text[1024];
  va_list arguments;
  va_start(arguments, pattern);
  vsnprintf(text, sizeof text, pattern, arguments);
  va_end(arguments);
  return text;
}

std::string name_of(const Thread& t) {
  const uint3 b = t.block->index;
  return format("block (%u,%u,%u), thread (%u,%u,%u)", b.x, b.y, b.z, t.index.x, t.index.y, t.index.z);
}

std::string name_of_kernel(const void* kernel) {
  Dl_info info;
  std::string name;
  if (dladdr(kernel, &info) && info.dli_sname && info.dli_saddr == kernel) {
    const std::unique_ptr<char, void (*)(void*)> text(
        abi::__cxa_demangle(info.dli_sname, nullptr, nullptr, nullptr), free);
    name = text ? text.get() : info.dli_sname;
  } else {  // in an anonymous namespace: only the symbol table knows
    void* const address = const_cast<void*>(kernel);
    const auto lines = addr2line("-f -C", &address, 1);
    name = lines.empty() ? "?" : lines[0];
  }
  for (const char* part : {"void ", "(anonymous namespace)::", "nemotron_h::", "cuda::"})
    for (size_t at; (at = name.find(part)) != std::string::npos;) name.erase(at, strlen(part));
  return name.substr(0, name.find('('));
}

std::string line_of(void* const* trace, int count) {
  std::vector<void*> calls;  // one byte back: from the return address into the call
  for (int i = 0; i < count; i++) calls.push_back(static_cast<char*>(trace[i]) - 1);
  for (const std::string& line : addr2line("-i", calls.data(), count))
    if (line.find(".cu:") != std::string::npos) return line.substr(0, line.find(' '));
  return "";
}

void fail(const std::string& what) {
  if (!running) throw Error("simt: " + (current ? name_of_kernel(current->launch->kernel) + ": " : "") + what);
  Thread& t = *running;
  Launch& launch = *t.cluster->launch;
  void* trace[24];
  const int count = backtrace(trace, 24);
  {
    std::lock_guard lock(launch.mutex);
    if (launch.error.empty()) {
      const std::string line = line_of(trace, count);
      const std::string where = name_of(t) + (line.empty() ? "" : ", " + line);
      launch.error = "simt: " + name_of_kernel(launch.kernel) + ", " + where + ": " + what;
    }
  }
  launch.stop = true;
  switch_to(t.fiber, t.cluster->scheduler);  // never resumed
  __builtin_unreachable();
}

}  // namespace simt
