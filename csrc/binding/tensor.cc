#include "binding/tensor.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <utility>

#include "binding/graph.h"

namespace nemotron_h::binding {
namespace {

const napi_type_tag kTag = random_tag();

// Host memory that stays valid and unchanged until the device has read it.
std::shared_ptr<const void> copy_of(const void* data, size_t bytes) {
  std::shared_ptr<std::byte[]> copy(new std::byte[bytes]);
  if (bytes) std::memcpy(copy.get(), data, bytes);
  return {copy, copy.get()};
}

// What a typed array's elements are when they become a tensor of `dtype`: floats convert, bytes are taken as
// the tensor's own bits, anything else must match.
DType source_dtype(const Napi::TypedArray& array, const Tensor& tensor, const char* function) {
  const auto type = array.TypedArrayType();
  const bool is_float = tensor.dtype != DType::i32 && tensor.dtype != DType::u8;
  const DType as = type == napi_float32_array && is_float ? DType::f32
                   : type == napi_int32_array && tensor.dtype == DType::i32 ? DType::i32 : tensor.dtype;
  const bool bytes = type == napi_uint8_array || type == napi_uint8_clamped_array;
  const bool matches = bytes || (type == napi_float32_array && is_float) ||
                       (type == napi_int32_array && tensor.dtype == DType::i32);
  if (!matches)
    throw Napi::TypeError::New(array.Env(), std::string(function) + ": data is " + describe(array) + ", expected " +
                                                (is_float ? "a Float32Array" : tensor.dtype == DType::i32 ? "an Int32Array" : "a Uint8Array") +
                                                (tensor.dtype == DType::u8 ? "" : ", or a Uint8Array of " + std::string(name_of(tensor.dtype)) + " bits"));
  const size_t expected = static_cast<size_t>(tensor.numel()) * size_of(as);
  if (array.ByteLength() != expected)
    throw Napi::RangeError::New(array.Env(), std::string(function) + ": data is " + std::to_string(array.ByteLength()) +
                                                 " bytes, expected " + std::to_string(expected) + " for " + shape_text(tensor));
  return as;
}

void upload(const Napi::TypedArray& array, const Tensor& tensor, const char* function) {
  const DType as = source_dtype(array, tensor, function);
  refuse_in_capture(*tensor.device, function);
  const void* data = array.As<Napi::Uint8Array>().Data();  // not through its buffer, which may be a SharedArrayBuffer
  tensor.device->upload(copy_of(data, array.ByteLength()), as, tensor);
}

Napi::Value tensor_from_data(const Napi::CallbackInfo& info) {
  if (!info[0].IsTypedArray())
    throw Napi::TypeError::New(info.Env(), "tensor: data is " + describe(info[0]) + ", expected a typed array");
  const DType dtype = dtype_argument(info[1], "tensor");
  const Tensor shaped = shape_argument(info[2], dtype, "tensor");
  source_dtype(info[0].As<Napi::TypedArray>(), shaped, "tensor");  // before anything is allocated
  Device& device = Environment::of(info.Env()).device(info[3]);
  refuse_in_capture(device, "tensor");
  const Tensor t = make_tensor(device, shaped);
  upload(info[0].As<Napi::TypedArray>(), t, "tensor");
  return TensorObject::wrap(info.Env(), t);
}

Napi::Value empty(const Napi::CallbackInfo& info) {
  const DType dtype = dtype_argument(info[0], "empty");
  const Tensor shaped = shape_argument(info[1], dtype, "empty");
  return TensorObject::wrap(info.Env(), make_tensor(Environment::of(info.Env()).device(info[2]), shaped));
}

void enter_scope(const Napi::CallbackInfo& info) { Environment::of(info.Env()).scopes.emplace_back(); }

// Ends the innermost scope: disposes its tensors but those in the array given, which the next scope takes over.
void leave_scope(const Napi::CallbackInfo& info) {
  auto& scopes = Environment::of(info.Env()).scopes;
  if (scopes.empty()) throw Napi::Error::New(info.Env(), "leaveScope: no scope is open");
  auto ended = std::move(scopes.back());
  scopes.pop_back();
  const auto keep = info[0].As<Napi::Array>();
  for (uint32_t i = 0; i < keep.Length(); ++i) {
    TensorObject* kept = TensorObject::from(keep.Get(i));
    if (kept && ended.erase(kept) && !scopes.empty()) scopes.back().insert(kept);
  }
  for (TensorObject* object : ended) object->dispose(info.Env());
}

// The integers `first` <= a <= b <= `last` of rows(a, b) and columns(a, b).
std::pair<int64_t, int64_t> interval(const Napi::CallbackInfo& info, const char* method, int64_t size) {
  const auto bound = [&](int i, int64_t low) {
    const double d = info[i].IsNumber() ? info[i].As<Napi::Number>().DoubleValue() : -1;
    if (!(d >= static_cast<double>(low) && d <= static_cast<double>(size) && std::trunc(d) == d))
      throw Napi::RangeError::New(info.Env(), std::string(method) + ": " + (i ? "end" : "start") + " is " + describe(info[i]) +
                                                  ", expected an integer from " + std::to_string(low) + " to " + std::to_string(size));
    return static_cast<int64_t>(d);
  };
  const int64_t start = bound(0, 0);
  return {start, bound(1, start)};
}

std::shared_ptr<void> offset(const Tensor& t, int64_t elements) {
  return {t.data, t.as<std::byte>() + static_cast<size_t>(elements) * size_of(t.dtype)};
}

}  // namespace

napi_type_tag random_tag() {
  std::random_device random;
  const auto word = [&] { return uint64_t{random()} << 32 | random(); };
  return {word(), word()};
}

std::string shape_text(const Tensor& t) {
  std::string s = "[";
  for (int i = 0; i < t.rank; ++i) s += (i ? "," : "") + std::to_string(t.size(i));
  return s + "]";
}

std::optional<DType> dtype_named(const Napi::Value& value) {
  const std::string name = value.IsString() ? value.As<Napi::String>().Utf8Value() : "";
  for (size_t i = 0; i < kDTypes.size(); ++i)
    if (kDTypes[i].name == name) return static_cast<DType>(i);
  return {};
}

DType dtype_argument(const Napi::Value& value, const char* function) {
  if (const auto named = dtype_named(value)) return *named;
  std::string names;
  for (const auto& t : kDTypes) names += (names.empty() ? "" : ", ") + std::string(t.name);
  throw Napi::TypeError::New(value.Env(), std::string(function) + ": dtype is " + describe(value) + ", expected one of " + names);
}

Tensor shape_argument(const Napi::Value& value, DType dtype, const char* function) {
  const auto fail = [&](const std::string& found) {
    return Napi::RangeError::New(value.Env(), std::string(function) + ": shape is " + found + ", expected an array of 1 to " +
                                                  std::to_string(kMaxRank) + " sizes");
  };
  if (!value.IsArray()) throw fail(describe(value));
  const auto sizes = value.As<Napi::Array>();
  if (sizes.Length() < 1 || sizes.Length() > kMaxRank) throw fail("of rank " + std::to_string(sizes.Length()));
  Tensor t;
  t.dtype = dtype;
  t.rank = static_cast<int>(sizes.Length());
  for (int i = 0; i < t.rank; ++i) {
    const Napi::Value size = sizes.Get(i);
    const double d = size.IsNumber() ? size.As<Napi::Number>().DoubleValue() : -1;
    if (!(d >= 0 && d <= 9007199254740991.0 && static_cast<double>(static_cast<int64_t>(d)) == d))
      throw fail("an array with " + describe(size));
    t.shape[i] = static_cast<int64_t>(d);
  }
  if (!countable(t)) throw fail(shape_text(t) + ", too many elements");
  t.row_stride = t.row_size();
  return t;
}

bool countable(const Tensor& t) {
  double elements = 1;
  for (int i = 0; i < t.rank; ++i) elements *= std::max(static_cast<double>(t.size(i)), 1.0);
  return elements <= 9007199254740991.0;
}

Tensor make_tensor(Device& device, Tensor shaped) {
  shaped.device = &device;
  shaped.row_stride = shaped.row_size();
  shaped.data = device.allocate(shaped.bytes());
  return shaped;
}

template <Napi::Value (TensorObject::*property)(Napi::Env) const>
Napi::Value TensorObject::getter(const Napi::CallbackInfo& info) {
  const TensorObject* self = from(info.This());
  if (!self) throw Napi::TypeError::New(info.Env(), "Tensor: this is " + describe(info.This()) + ", expected a tensor");
  return (self->*property)(info.Env());
}

void TensorObject::define(Napi::Env env, Napi::Object exports) {
  auto constructor = DefineClass(env, "Tensor", {
    InstanceMethod<&TensorObject::read>("read"),
    InstanceMethod<&TensorObject::read_bytes>("readBytes"),
    InstanceMethod<&TensorObject::write>("write"),
    InstanceMethod<&TensorObject::reshape>("reshape"),
    InstanceMethod<&TensorObject::rows>("rows"),
    InstanceMethod<&TensorObject::columns>("columns"),
    InstanceMethod<&TensorObject::js_dispose>("dispose"),
  });
  // Not InstanceAccessor: a getter can be called on any object, and that would take it for a tensor.
  constructor.Get("prototype").As<Napi::Object>().DefineProperties({
    Napi::PropertyDescriptor::Accessor<getter<&TensorObject::get_dtype>>("dtype", napi_enumerable),
    Napi::PropertyDescriptor::Accessor<getter<&TensorObject::get_shape>>("shape", napi_enumerable),
    Napi::PropertyDescriptor::Accessor<getter<&TensorObject::get_bytes>>("bytes", napi_enumerable),
    Napi::PropertyDescriptor::Accessor<getter<&TensorObject::get_device>>("device", napi_enumerable),
    Napi::PropertyDescriptor::Accessor<getter<&TensorObject::get_disposed>>("disposed", napi_enumerable),
  });
  Environment::of(env).tensor_constructor = Napi::Persistent(constructor);
  exports.Set("Tensor", constructor);
  exports.Set("tensor", Napi::Function::New<tensor_from_data>(env, "tensor"));
  exports.Set("empty", Napi::Function::New<empty>(env, "empty"));
  exports.Set("enterScope", Napi::Function::New<enter_scope>(env, "enterScope"));
  exports.Set("leaveScope", Napi::Function::New<leave_scope>(env, "leaveScope"));
}

Napi::Object TensorObject::wrap(Napi::Env env, Tensor tensor, bool owns) {
  auto& environment = Environment::of(env);
  environment.wrapping = &tensor;
  Napi::Object object = environment.tensor_constructor.New({});
  auto* self = Unwrap(object);
  if (owns) {
    self->reported_ = static_cast<int64_t>(tensor.bytes());
    Napi::MemoryManagement::AdjustExternalMemory(env, self->reported_);
  }
  if (!environment.scopes.empty()) environment.scopes.back().insert(self);
  return object;
}

TensorObject* TensorObject::from(const Napi::Value& value) {
  if (!value.IsObject()) return nullptr;
  auto object = value.As<Napi::Object>();
  return object.CheckTypeTag(&kTag) ? Unwrap(object) : nullptr;
}

TensorObject::TensorObject(const Napi::CallbackInfo& info) : ObjectWrap(info), env_(info.Env()) {
  const Tensor* wrapping = std::exchange(Environment::of(env_).wrapping, nullptr);
  if (!wrapping) throw Napi::TypeError::New(env_, "Tensor: make one with tensor() or empty()");
  tensor = *wrapping;
  info.This().As<Napi::Object>().TypeTag(&kTag);
}

TensorObject::~TensorObject() { dispose(env_); }

void TensorObject::dispose(Napi::Env env) {
  if (disposed()) return;
  if (auto* environment = env.GetInstanceData<Environment>())
    for (auto& scope : environment->scopes) scope.erase(this);
  tensor.data = nullptr;
  if (reported_) Napi::MemoryManagement::AdjustExternalMemory(env, -std::exchange(reported_, 0));
}

const Tensor& TensorObject::live(const Napi::CallbackInfo& info, const char* method) const {
  if (disposed()) throw Napi::Error::New(info.Env(), std::string(method) + ": the tensor is disposed");
  return tensor;
}

Napi::Value TensorObject::get_dtype(Napi::Env env) const {
  return Napi::String::New(env, name_of(tensor.dtype).data());
}

Napi::Value TensorObject::get_shape(Napi::Env env) const {
  auto shape = Napi::Array::New(env, tensor.rank);
  for (int i = 0; i < tensor.rank; ++i) shape.Set(i, static_cast<double>(tensor.size(i)));
  return shape;
}

Napi::Value TensorObject::get_bytes(Napi::Env env) const {
  return Napi::Number::New(env, static_cast<double>(tensor.bytes()));
}

Napi::Value TensorObject::get_device(Napi::Env env) const {
  return Napi::String::New(env, tensor.device->name);
}

Napi::Value TensorObject::get_disposed(Napi::Env env) const { return Napi::Boolean::New(env, disposed()); }

Napi::Value TensorObject::read(const Napi::CallbackInfo& info) {
  return Environment::of(info.Env()).read(live(info, "read"), false);
}

Napi::Value TensorObject::read_bytes(const Napi::CallbackInfo& info) {
  return Environment::of(info.Env()).read(live(info, "readBytes"), true);
}

Napi::Value TensorObject::write(const Napi::CallbackInfo& info) {
  if (!info[0].IsTypedArray())
    throw Napi::TypeError::New(info.Env(), "write: data is " + describe(info[0]) + ", expected a typed array");
  upload(info[0].As<Napi::TypedArray>(), live(info, "write"), "write");
  return info.This();
}

Napi::Value TensorObject::reshape(const Napi::CallbackInfo& info) {
  const Tensor from = live(info, "reshape");  // a copy: reading the shape may run a getter that disposes
  Tensor to = shape_argument(info[0], from.dtype, "reshape");
  const bool same_rows = to.size(0) == from.size(0);
  if (to.numel() != from.numel() || !(from.dense() || same_rows))
    throw Napi::RangeError::New(info.Env(), "reshape: shape is " + shape_text(to) + ", expected " +
                                                (from.dense() ? std::to_string(from.numel()) + " elements"
                                                              : std::to_string(from.size(0)) + " rows, as the view has"));
  to.data = from.data;
  to.device = from.device;
  if (same_rows) to.row_stride = from.row_stride;
  return wrap(info.Env(), to, false);
}

Napi::Value TensorObject::rows(const Napi::CallbackInfo& info) {
  Tensor t = live(info, "rows");
  const auto [start, end] = interval(info, "rows", t.size(0));
  t.data = offset(t, start * t.row_stride);
  t.shape[0] = end - start;
  return wrap(info.Env(), t, false);
}

Napi::Value TensorObject::columns(const Napi::CallbackInfo& info) {
  Tensor t = live(info, "columns");
  if (t.rank != 2) throw Napi::RangeError::New(info.Env(), "columns: the tensor is " + shape_text(t) + ", expected 2 dimensions");
  const auto [start, end] = interval(info, "columns", t.size(1));
  t.data = offset(t, start);
  t.shape[1] = end - start;
  return wrap(info.Env(), t, false);
}

Napi::Value TensorObject::js_dispose(const Napi::CallbackInfo& info) {
  dispose(info.Env());
  return info.Env().Undefined();
}

}  // namespace nemotron_h::binding
