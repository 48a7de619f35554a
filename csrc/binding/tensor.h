// The JavaScript class Tensor: a share of a tensor that ends at dispose(), at the end of its scope, or,
// as the last resort, when it is garbage collected.
#pragma once

#include <optional>

#include "binding/environment.h"

namespace nemotron_h::binding {

class TensorObject : public Napi::ObjectWrap<TensorObject> {
 public:
  static void define(Napi::Env env, Napi::Object exports);

  // A new JavaScript object for `tensor`. owns: it accounts for the memory (a view does not).
  static Napi::Object wrap(Napi::Env env, Tensor tensor, bool owns = true);
  // The object behind a JavaScript value; null if it is anything else, a tensor of another copy of the addon included.
  static TensorObject* from(const Napi::Value& value);

  explicit TensorObject(const Napi::CallbackInfo& info);
  ~TensorObject() override;
  void dispose(Napi::Env env);
  bool disposed() const { return tensor.data == nullptr; }

  Tensor tensor;

 private:
  template <Napi::Value (TensorObject::*property)(Napi::Env) const>
  static Napi::Value getter(const Napi::CallbackInfo& info);
  Napi::Value get_dtype(Napi::Env env) const;
  Napi::Value get_shape(Napi::Env env) const;
  Napi::Value get_bytes(Napi::Env env) const;
  Napi::Value get_device(Napi::Env env) const;
  Napi::Value get_disposed(Napi::Env env) const;
  Napi::Value read(const Napi::CallbackInfo& info);
  Napi::Value read_bytes(const Napi::CallbackInfo& info);
  Napi::Value write(const Napi::CallbackInfo& info);
  Napi::Value reshape(const Napi::CallbackInfo& info);
  Napi::Value rows(const Napi::CallbackInfo& info);
  Napi::Value columns(const Napi::CallbackInfo& info);
  Napi::Value js_dispose(const Napi::CallbackInfo& info);

  // Throws where the tensor was disposed; every method but dispose begins with it.
  const Tensor& live(const Napi::CallbackInfo& info, const char* method) const;

  Napi::Env env_;
  int64_t reported_ = 0;  // bytes told to the garbage collector
};

std::optional<DType> dtype_named(const Napi::Value& value);

// Reads a dtype or a shape that `function` was given, or throws.
DType dtype_argument(const Napi::Value& value, const char* function);
Tensor shape_argument(const Napi::Value& value, DType dtype, const char* function);

// Whether the product of its sizes, those that are 0 left out, is a safe integer: counts in elements and bytes
// then do not overflow.
bool countable(const Tensor& shaped);

// An uninitialised tensor like `shaped`, on `device`.
Tensor make_tensor(Device& device, Tensor shaped);

// For the objects of a class. Random for every load of the addon, so that one of another copy is refused, not reinterpreted.
napi_type_tag random_tag();

// "[2,3]"
std::string shape_text(const Tensor& tensor);

}  // namespace nemotron_h::binding
