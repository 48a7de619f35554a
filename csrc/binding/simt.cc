// The emulator's own exports: its schedule, and kernels compiled apart, which mutation tests put in the place of ours.
#ifdef NEMOTRON_H_SIMT
#include "binding/simt.h"

#include <dlfcn.h>
#include <sys/mman.h>

#include <array>
#include <cstring>
#include <map>

#include "simt/simt.h"

namespace nemotron_h::binding {
namespace {

using Code = std::array<unsigned char, 12>;

// The library that holds the addon; its symbols become visible to those loaded later.
void* addon() {
  static void* const handle = [] {
    Dl_info info;
    dladdr(reinterpret_cast<void*>(&simt_object), &info);
    return dlopen(info.dli_fname, RTLD_LAZY | RTLD_GLOBAL | RTLD_NOLOAD);
  }();
  return handle;
}

void* load(const std::string& path) {
  if (void* const library = addon() ? dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL) : nullptr) return library;
  throw std::runtime_error("simt: " + path + " does not load: " + dlerror());
}

void overwrite(void* function, const Code& code) {
  constexpr uintptr_t kPage = 4096;
  const uintptr_t at = reinterpret_cast<uintptr_t>(function), first = at / kPage * kPage;
  void* const page = reinterpret_cast<void*>(first);
  const size_t bytes = at + code.size() - first;
  if (mprotect(page, bytes, PROT_READ | PROT_WRITE | PROT_EXEC))
    throw std::runtime_error("simt: code cannot be replaced");
  memcpy(function, code.data(), code.size());
  mprotect(page, bytes, PROT_READ | PROT_EXEC);
}

// mov rax, target; jmp rax
Code jump_to(const void* target) {
  Code code = {0x48, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xe0};
  memcpy(&code[2], &target, sizeof target);
  return code;
}

// useKernels(path, symbols): calls of our functions of these names go to the library's; useKernels() ends that.
void use_kernels(const Napi::CallbackInfo& info) {
  static auto& replaced = *new std::map<void*, Code>;
  for (const auto& [function, code] : replaced) overwrite(function, code);
  replaced.clear();
  if (info.Length() == 0) return;
  void* const library = load(info[0].As<Napi::String>());
  const auto symbols = info[1].As<Napi::Array>();
  for (uint32_t i = 0; i < symbols.Length(); ++i) {
    const std::string name = symbols.Get(i).As<Napi::String>();
    void *const ours = dlsym(addon(), name.c_str()), *const theirs = dlsym(library, name.c_str());
    if (!ours || !theirs || ours == theirs) continue;
    Code code;
    memcpy(code.data(), ours, code.size());
    replaced[ours] = code;
    overwrite(ours, jump_to(theirs));
  }
}

// check(path, name): what the library's check of that name finds wrong; '' if nothing.
Napi::Value check(const Napi::CallbackInfo& info) {
  void* const library = load(info[0].As<Napi::String>());
  const std::string name = info[1].As<Napi::String>();
  const auto function = reinterpret_cast<void (*)(std::string&)>(dlsym(library, name.c_str()));
  if (!function) throw std::runtime_error("simt: there is no check " + name);
  std::string complaint;
  try {
    function(complaint);
  } catch (const simt::Error& e) {
    complaint = e.what();
  }
  return Napi::String::New(info.Env(), complaint);
}

void seed(const Napi::CallbackInfo& info) { simt::set_seed(info[0].As<Napi::Number>().Int64Value()); }
void clear_tickets(const Napi::CallbackInfo&) { simt::clear_tickets(); }
void pinned(const Napi::CallbackInfo& info) { simt::set_pinned_limit(info[0].As<Napi::Number>().Int64Value()); }
void threads(const Napi::CallbackInfo& info) { simt::set_threads(info[0].As<Napi::Number>().Uint32Value()); }

}  // namespace

Napi::Object simt_object(Napi::Env env) {
  auto o = Napi::Object::New(env);
  o.Set("seed", Napi::Function::New<seed>(env, "seed"));
  o.Set("pinned", Napi::Function::New<pinned>(env, "pinned"));
  o.Set("threads", Napi::Function::New<threads>(env, "threads"));
  o.Set("clearTickets", Napi::Function::New<clear_tickets>(env, "clearTickets"));
  o.Set("useKernels", Napi::Function::New<use_kernels>(env, "useKernels"));
  o.Set("check", Napi::Function::New<check>(env, "check"));
  o.Set("watches", simt::tracks_accesses());
  return o;
}

}  // namespace nemotron_h::binding
#endif
