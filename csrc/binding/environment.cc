#include "binding/environment.h"

#include <charconv>
#include <optional>

#include "binding/graph.h"
#include "binding/tensor.h"
#include "cpu/cpu_device.h"
#include "cuda/devices.h"

namespace nemotron_h::binding {

struct Environment::Finished {
  PendingRead* read;
  std::string error;
};

namespace {

// 'cuda' is 'cuda:0'; nothing for what does not name a GPU.
std::optional<int> gpu_index(std::string_view name) {
  const std::string_view kind = cuda::kName;
  if (!name.starts_with(kind)) return {};
  if (name == kind) return 0;
  if (name[kind.size()] != ':') return {};
  const std::string_view digits = name.substr(kind.size() + 1);
  int index = 0;
  const auto [end, error] = std::from_chars(digits.begin(), digits.end(), index);
  return error == std::errc() && end == digits.end() && index >= 0 ? std::optional(index) : std::nullopt;
}

}  // namespace

Environment::ArrayType::ArrayType(Napi::Env env, const char* name)
    : name(name), constructor(Napi::Persistent(env.Global().Get(name).As<Napi::Function>())) {}

Environment::Environment(Napi::Env env)
    : env_(env),
      cpu_(std::make_unique<cpu::CpuDevice>()),
      uint8_array_(env, "Uint8Array"),
      int32_array_(env, "Int32Array"),
      float32_array_(env, "Float32Array") {
  finished_ = Napi::ThreadSafeFunction::New(env, Napi::Function::New(env, [](const Napi::CallbackInfo&) {}),
                                            "nemotron-h read", 0, 1);
  finished_.Unref(env);  // held only while a read is under way
  // Registered after the function above, so it runs before that closes: from here on no thread calls it.
  env.AddCleanupHook([this] {
    cpu_.reset();
    gpus_.clear();
  });
}

Environment::~Environment() {
  for (PendingRead* read : pending_) delete read;
}

Device& Environment::device(const Napi::Value& name) {
  if (name.IsUndefined()) return *cpu_;
  const std::string text = name.IsString() ? name.As<Napi::String>().Utf8Value() : describe(name);
  if (text == cpu_->name) return *cpu_;
  const auto index = gpu_index(text);
  if (!index) {
    const std::string gpu = cuda::kName;
    throw Napi::TypeError::New(env_, "device is " + describe(name) + ", expected cpu, " + gpu + " or " + gpu + ":N");
  }
  if constexpr (cuda::kBuilt) {
    std::unique_ptr<Device>& device = gpus_[*index];
    if (!device) device = cuda::open(*index);
    return *device;
  }
  throw Napi::Error::New(env_, "device " + text + ": built without CUDA");
}

Napi::Value Environment::read(const Tensor& tensor, bool raw) {
  refuse_in_capture(*tensor.device, raw ? "readBytes" : "read");
  const bool is_float = tensor.dtype != DType::i32 && tensor.dtype != DType::u8;
  const DType as = is_float && !raw ? DType::f32 : tensor.dtype;
  const auto& type = raw || as == DType::u8 ? uint8_array_ : as == DType::i32 ? int32_array_ : float32_array_;
  const auto length = static_cast<double>(raw ? tensor.bytes() : static_cast<size_t>(tensor.numel()));
  const auto array = [&] {
    try {  // Where one is too long, or memory short, its constructor throws; Node-API's functions end the process.
      return type.constructor.New({Napi::Number::New(env_, length)}).As<Napi::TypedArray>();
    } catch (const Napi::Error& error) {
      throw Napi::RangeError::New(env_, std::string(raw ? "readBytes" : "read") + ": the tensor is " + shape_text(tensor) +
                                            ", expected one that fits a " + type.name + " (" + error.Message() + ")");
    }
  }();
  auto* read = new PendingRead{Napi::Promise::Deferred::New(env_), Napi::Persistent(array)};
  auto promise = read->deferred.Promise();
  pending_.insert(read);
  if (pending_.size() == 1) finished_.Ref(env_);

  tensor.device->read(tensor, as, array.As<Napi::Uint8Array>().Data(), [this, read](std::string error) {
    finished_.NonBlockingCall(new Finished{read, std::move(error)}, [this](Napi::Env env, Napi::Function, Finished* f) {
      settle(env, *f);
      delete f;
    });
  });
  return promise;
}

void Environment::settle(Napi::Env env, const Finished& finished) {
  std::unique_ptr<PendingRead> read(finished.read);
  pending_.erase(read.get());
  if (pending_.empty()) finished_.Unref(env);
  if (finished.error.empty()) read->deferred.Resolve(read->array.Value());
  else read->deferred.Reject(Napi::Error::New(env, finished.error).Value());
}

}  // namespace nemotron_h::binding
