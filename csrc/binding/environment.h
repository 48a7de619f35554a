// What one JavaScript environment (the main thread, or a worker) owns: its devices, its tensors' scopes,
// and the reads it waits for. Nothing of the addon is global, so every worker_thread can load it.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <unordered_set>
#include <vector>

#include "binding/napi.h"
#include "device.h"

namespace nemotron_h::binding {

class TensorObject;

// A read under way: resolved on the JavaScript thread, never touched on another.
struct PendingRead {
  Napi::Promise::Deferred deferred;
  Napi::Reference<Napi::TypedArray> array;
};

class Environment {
 public:
  explicit Environment(Napi::Env env);
  ~Environment();
  static Environment& of(Napi::Env env) { return *env.GetInstanceData<Environment>(); }

  // The device called `name`, the CPU for undefined; throws where there is none. GPUs are opened when first named.
  Device& device(const Napi::Value& name);
  Device& cpu() { return *cpu_; }

  // Queues a copy of `tensor` to a new typed array; the promise resolves with it. raw: the bytes as stored.
  Napi::Value read(const Tensor& tensor, bool raw);

  Napi::FunctionReference tensor_constructor, graph_constructor;
  const Tensor* wrapping = nullptr;  // set while C++ itself constructs a Tensor object

  // The tensors made since each open scope began, innermost scope last.
  std::vector<std::unordered_set<TensorObject*>> scopes;

 private:
  struct Finished;
  struct ArrayType {
    ArrayType(Napi::Env env, const char* name);
    const char* name;
    Napi::FunctionReference constructor;
  };
  void settle(Napi::Env env, const Finished& finished);

  Napi::Env env_;
  std::unique_ptr<Device> cpu_;
  std::map<int, std::unique_ptr<Device>> gpus_;  // by index
  const ArrayType uint8_array_, int32_array_, float32_array_;  // looked up once: a decode step reads one
  Napi::ThreadSafeFunction finished_;
  std::unordered_set<PendingRead*> pending_;
};

}  // namespace nemotron_h::binding
