#include "binding/call.h"

#include <cmath>

#include "binding/tensor.h"

namespace nemotron_h::binding {

Call::Call(const char* name, const Signature& signature, const Napi::CallbackInfo& info)
    : env_(info.Env()), name_(name), signature_(signature) {
  sizes_.fill(kUnbound);
  values.reserve(signature.count);
  if (info.Length() > static_cast<size_t>(signature.count))
    throw Napi::TypeError::New(env_, camel(name_) + ": takes at most " + std::to_string(signature.count) +
                                         " arguments, got " + std::to_string(info.Length()));
  for (int i = 0; i < signature.count; ++i) take(i, info[i]);
  check_overlaps();
}

Napi::Value Call::results() const {
  if (results_.empty()) return env_.Undefined();
  if (results_.size() == 1) return Napi::Value(env_, results_[0]);
  auto array = Napi::Array::New(env_, results_.size());
  for (size_t i = 0; i < results_.size(); ++i) array.Set(i, results_[i]);
  return array;
}

template <class Error>
void Call::fail(const Param& p, const std::string& found, const std::string& expected) const {
  throw Error::New(env_, camel(name_) + ": " + camel(p.name) + " is " + found + ", expected " + expected);
}

void Call::take(int i, const Napi::Value& value) {
  const Param& p = signature_.params[i];
  switch (p.kind) {
    case Kind::tensor:
      if (p.out && value.IsUndefined()) make_result(p);
      else if (p.optional && value.IsUndefined()) values.push_back({});
      else take_tensor(p, value);
      break;
    case Kind::boolean:
      if (!value.IsBoolean()) fail<Napi::TypeError>(p, describe(value), "true or false");
      values.push_back({{}, value.As<Napi::Boolean>() ? 1.0 : 0.0});
      break;
    case Kind::dtype: {
      const auto t = dtype_named(value);
      if (!t || !p.dtype.has(*t)) fail<Napi::TypeError>(p, t ? std::string(name_of(*t)) : describe(value), expected_dtype(p));
      values.push_back({{}, static_cast<double>(*t)});
      break;
    }
    case Kind::number:
    case Kind::integer:
      take_number(p, value);
      bind_int_parameters(i);
  }
}

void Call::take_number(const Param& p, const Napi::Value& value) {
  const bool integer = p.kind == Kind::integer;
  const double d = value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : NAN;
  if (std::isnan(d)) fail<Napi::TypeError>(p, describe(value), integer ? "an integer" : "a number");
  if (integer && !(std::abs(d) <= 9007199254740991.0 && std::trunc(d) == d)) fail<Napi::TypeError>(p, describe(value), "an integer");
  values.push_back({{}, d});
}

void Call::bind_int_parameters(int i) {
  for (int s = 0; s < signature_.symbol_count; ++s) {
    if (signature_.symbol_param[s] != i) continue;
    if (values[i].number < 0) fail<Napi::RangeError>(signature_.params[i], std::to_string(static_cast<int64_t>(values[i].number)), "at least 0");
    sizes_[s] = static_cast<int64_t>(values[i].number);
  }
}

void Call::take_tensor(const Param& p, const Napi::Value& value) {
  TensorObject* object = TensorObject::from(value);
  if (!object) fail<Napi::TypeError>(p, describe(value), "a tensor");
  if (object->disposed()) throw Napi::Error::New(env_, camel(name_) + ": " + camel(p.name) + " is disposed");
  const Tensor& t = object->tensor;
  if (!device_) device_ = t.device;
  if (t.device != device_) fail<Napi::TypeError>(p, "on " + t.device->name, "a tensor on " + device_->name);
  check_dtype(p, t);
  check_shape(p, t);
  if (!p.view && !t.dense()) fail<Napi::RangeError>(p, "a view whose rows lie apart", "a dense tensor");
  values.push_back({t, 0});
  if (p.out) results_.push_back(value);
}

void Call::make_result(const Param& p) {
  if (!device_) device_ = &Environment::of(env_).cpu();
  Tensor t;
  t.dtype = result_dtype(p);
  t.rank = p.rank;
  for (int i = 0; i < p.rank; ++i) t.shape[i] = size_of_dim(p.dims[i]);
  if (!countable(t)) fail<Napi::RangeError>(p, shape_text(t), "at most 9007199254740991 elements");
  try {
    values.push_back({make_tensor(*device_, t), 0});
  } catch (const OutOfMemory& e) {
    throw OutOfMemory(camel(name_) + ": " + camel(p.name) + " is " + shape_text(t) + ": " + e.what());
  }
  results_.push_back(TensorObject::wrap(env_, values.back().tensor));
}

void Call::check_dtype(const Param& p, const Tensor& t) {
  const bool is_act = p.dtype.name == "act" && p.dtype_from < 0;
  bool ok = p.dtype.has(t.dtype);
  if (ok && is_act) {
    if (act_ < 0) act_ = static_cast<int>(t.dtype);
    ok = static_cast<int>(t.dtype) == act_;
  }
  if (ok && p.dtype_from >= 0) ok = t.dtype == result_dtype(p);
  if (!ok) fail<Napi::TypeError>(p, std::string(name_of(t.dtype)), expected_dtype(p));
}

void Call::check_shape(const Param& p, const Tensor& t) {
  bool ok = t.rank == p.rank;
  for (int i = 0; ok && i < p.rank; ++i) {
    const Dim& d = p.dims[i];
    if (d.symbol >= 0 && sizes_[d.symbol] == kUnbound) {
      if (d.op == Dim::Op::none) sizes_[d.symbol] = t.size(i);
      if (d.op == Dim::Op::plus) sizes_[d.symbol] = t.size(i) - d.number;
      if (d.op == Dim::Op::minus) sizes_[d.symbol] = t.size(i) + d.number;
      ok = sizes_[d.symbol] >= 0;
      if (!ok) sizes_[d.symbol] = kUnbound;
    }
    ok = ok && t.size(i) == size_of_dim(d);
  }
  if (!ok) fail<Napi::RangeError>(p, shape_text(t), expected_shape(p));
}

void Call::check_overlaps() const {
  for (int i = 0; i < signature_.count; ++i) {
    const Param& written = signature_.params[i];
    if (!(written.out || written.mut) || !values[i].tensor) continue;
    for (int j = 0; j < signature_.count; ++j) {
      const Param& other = signature_.params[j];
      // Two written tensors are compared once; the message names the result, or the later of the two.
      if (i == j || !values[j].tensor || ((other.out || other.mut) && j > i)) continue;
      if (overlap(values[i].tensor, values[j].tensor))
        throw Napi::RangeError::New(env_, camel(name_) + ": " + camel(written.name) + " shares memory with " +
                                              camel(other.name) + ", expected memory of its own");
    }
  }
}

DType Call::result_dtype(const Param& p) const {
  if (p.dtype_from >= 0) return static_cast<DType>(values[p.dtype_from].number);
  if (p.dtype.name == "act") return static_cast<DType>(act_);
  for (int i = 0;; ++i)
    if (p.dtype.has(static_cast<DType>(i))) return static_cast<DType>(i);
}

int64_t Call::size_of_dim(const Dim& d) const { return d.size(d.symbol < 0 ? 0 : sizes_[d.symbol]); }

std::string Call::expected_dtype(const Param& p) const {
  if (p.out && p.dtype_from >= 0) return std::string(name_of(result_dtype(p)));
  if (p.dtype.name == "act" && p.kind == Kind::tensor && act_ >= 0) return std::string(name_of(static_cast<DType>(act_)));
  std::vector<std::string_view> names;
  for (size_t i = 0; i < kDTypes.size(); ++i)
    if (p.dtype.has(static_cast<DType>(i))) names.push_back(kDTypes[i].name);
  std::string text;
  for (size_t i = 0; i < names.size(); ++i)
    text += (i == 0 ? "" : i + 1 == names.size() ? " or " : ", ") + std::string(names[i]);
  return text;
}

// "[D=4096]", "[S+1=3]"; a symbol without a size yet stands alone.
std::string Call::expected_shape(const Param& p) const {
  std::string text = "[";
  for (int i = 0; i < p.rank; ++i) {
    const Dim& d = p.dims[i];
    if (i) text += ",";
    if (d.symbol < 0) {
      text += std::to_string(d.number);
      continue;
    }
    text += signature_.symbols[d.symbol];
    constexpr const char* kSigns[] = {"", "+", "-", "/"};
    if (d.op != Dim::Op::none) text += kSigns[static_cast<int>(d.op)] + std::to_string(d.number);
    if (sizes_[d.symbol] != kUnbound) text += "=" + std::to_string(size_of_dim(d));
  }
  return text + "]";
}

}  // namespace nemotron_h::binding
