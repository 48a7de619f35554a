#include "cuda/gemm/cublaslt/library.h"

#include <dlfcn.h>

#include <atomic>
#include <stdexcept>

#include "cuda/gemm/cublaslt/api.h"

namespace nemotron_h::cuda::gemm::cublaslt {
namespace {

template <class F>
void find(void* library, const char* name, F*& function) {
  function = reinterpret_cast<F*>(dlsym(library, name));
  if (!function) throw std::runtime_error(dlerror());
}

// Throws what the loader says, which names the file.
Library open(const std::string& name) {
  void* const library = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!library) throw std::runtime_error(dlerror());
  Library l{};
#define FUNCTION(result, name, parameters) find(library, #name, l.name);
  NEMOTRON_H_CUBLASLT_FUNCTIONS(FUNCTION)
#undef FUNCTION
  Dl_info info{};
  dladdr(reinterpret_cast<void*>(l.cublasLtMatmul), &info);
  l.path = info.dli_fname;
  return l;
}

struct System {
  Library library;
  std::string tried;  // what the loader said of each name, where none could be had
};

const System& system_library() {
  static const System& found = *new System([] {
    System s;
    for (const char* name : {"libcublasLt.so.13", "libcublasLt.so.12"}) {
      try {
        return System{open(name), {}};
      } catch (const std::exception& e) {
        s.tried += (s.tried.empty() ? "" : "; ") + std::string(e.what());
      }
    }
    return s;
  }());
  return found;
}

std::atomic<const Library*> given;

}  // namespace

void Library::check(const char* function, cublasStatus_t status) const {
  if (status != CUBLAS_STATUS_SUCCESS)
    throw std::runtime_error(std::string(function) + ": " + cublasLtGetStatusName(status));
}

const Library* library() {
  if (const Library* const l = given) return l;
  return system_library().tried.empty() ? &system_library().library : nullptr;
}

const Library& needed() {
  if (const Library* const l = library()) return *l;
  throw std::runtime_error("cuBLASLt is not found: " + system_library().tried);
}

void load(const std::string& path) { given = new Library(open(path)); }

std::string found() {
  const Library* const l = library();
  if (!l) return {};
  const size_t v = l->cublasLtGetVersion();  // 130101 is 13.1.1
  return l->path + ", version " + std::to_string(v / 10000) + "." + std::to_string(v / 100 % 100) + "." +
         std::to_string(v % 100);
}

}  // namespace nemotron_h::cuda::gemm::cublaslt
