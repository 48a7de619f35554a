#include "binding/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmath>
#include <cstring>

#include "binding/graph.h"
#include "binding/tensor.h"

namespace nemotron_h::binding {
namespace {

struct Descriptor {
  int fd;
  ~Descriptor() { if (fd >= 0) ::close(fd); }
};

}  // namespace

struct Mapping {
  explicit Mapping(const std::string& path) {
    const auto fail = [&] { return std::runtime_error("MappedFile: " + path + ": " + std::strerror(errno)); };
    const Descriptor file{::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
    struct stat status;
    if (file.fd < 0 || ::fstat(file.fd, &status) != 0) throw fail();
    if (S_ISDIR(status.st_mode)) throw std::runtime_error("MappedFile: " + path + ": Is a directory");
    bytes = static_cast<size_t>(status.st_size);
    if (bytes == 0) return;
    void* address = ::mmap(nullptr, bytes, PROT_READ, MAP_PRIVATE, file.fd, 0);
    if (address == MAP_FAILED) throw fail();
    data = static_cast<std::byte*>(address);
  }
  ~Mapping() { if (data) ::munmap(data, bytes); }
  Mapping(const Mapping&) = delete;

  std::byte* data = nullptr;
  size_t bytes = 0;
};

namespace {

// One tensor's part of a mapping. When the device has read it, its pages are handed back, so that
// loading holds the weights once.
struct Part {
  std::shared_ptr<Mapping> mapping;
  size_t start, bytes;
  ~Part() {
    const size_t page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
    const size_t first = (start + page - 1) / page * page, last = (start + bytes) / page * page;
    if (first < last) ::madvise(mapping->data + first, last - first, MADV_DONTNEED);
  }
};

}  // namespace

void MappedFile::define(Napi::Env env, Napi::Object exports) {
  exports.Set("MappedFile", DefineClass(env, "MappedFile", {
    InstanceMethod<&MappedFile::tensor>("tensor"),
    InstanceMethod<&MappedFile::close>("close"),
  }));
}

MappedFile::MappedFile(const Napi::CallbackInfo& info) : ObjectWrap(info) {
  if (!info[0].IsString()) throw Napi::TypeError::New(info.Env(), "MappedFile: path is " + describe(info[0]) + ", expected a string");
  mapping_ = std::make_shared<Mapping>(info[0].As<Napi::String>().Utf8Value());
}

// tensor(start, dtype, shape, device?): a copy of the elements that begin at byte `start`.
Napi::Value MappedFile::tensor(const Napi::CallbackInfo& info) {
  const auto mapping = mapping_;  // a share: reading the shape may run a getter that closes the file
  if (!mapping) throw Napi::Error::New(info.Env(), "MappedFile: the file is closed");
  const double start = info[0].IsNumber() ? info[0].As<Napi::Number>().DoubleValue() : -1;
  const DType dtype = dtype_argument(info[1], "MappedFile");
  const Tensor shaped = shape_argument(info[2], dtype, "MappedFile");
  const auto bytes = static_cast<double>(shaped.bytes());
  if (!(start >= 0 && std::trunc(start) == start && start + bytes <= static_cast<double>(mapping->bytes)))
    throw Napi::RangeError::New(info.Env(), "MappedFile: start is " + describe(info[0]) + ", expected an integer at which " +
                                                shape_text(shaped) + " of " + std::string(name_of(dtype)) + " lies within the file's " +
                                                std::to_string(mapping->bytes) + " bytes");
  Device& device = Environment::of(info.Env()).device(info[3]);
  refuse_in_capture(device, "MappedFile");
  const Tensor t = make_tensor(device, shaped);
  auto part = std::make_shared<Part>(Part{mapping, static_cast<size_t>(start), shaped.bytes()});
  t.device->upload({part, mapping->data + part->start}, dtype, t);
  return TensorObject::wrap(info.Env(), t);
}

// Copies already asked for still complete: each holds a share of the mapping.
Napi::Value MappedFile::close(const Napi::CallbackInfo& info) {
  mapping_.reset();
  return info.Env().Undefined();
}

}  // namespace nemotron_h::binding
