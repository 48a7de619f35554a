// One call of an op: its JavaScript arguments, checked against its signature and turned into values.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "binding/environment.h"
#include "signature.h"

namespace nemotron_h::binding {

struct Value {
  Tensor tensor;
  double number = 0;
};

class Call {
 public:
  // Throws TypeError (kind, dtype, device, count), RangeError (sizes) or Error (disposed), in words.
  // Results that were not given are allocated.
  Call(const char* name, const Signature& signature, const Napi::CallbackInfo& info);

  std::vector<Value> values;           // one per parameter of the signature, in order
  Device& device() const { return *device_; }
  Napi::Value results() const;         // undefined, the one result, or an array of them

 private:
  void take(int i, const Napi::Value& value);
  void take_tensor(const Param& p, const Napi::Value& value);
  void take_number(const Param& p, const Napi::Value& value);
  void make_result(const Param& p);
  void bind_int_parameters(int i);
  void check_dtype(const Param& p, const Tensor& t);
  void check_shape(const Param& p, const Tensor& t);
  void check_overlaps() const;

  DType result_dtype(const Param& p) const;
  int64_t size_of_dim(const Dim& d) const;
  std::string expected_dtype(const Param& p) const;
  std::string expected_shape(const Param& p) const;
  template <class Error>
  [[noreturn]] void fail(const Param& p, const std::string& found, const std::string& expected) const;

  static constexpr int64_t kUnbound = -1;

  Napi::Env env_;
  const char* name_;
  const Signature& signature_;
  Device* device_ = nullptr;
  int act_ = -1;  // the DType that `act` stands for in this call
  std::array<int64_t, Signature::kMax> sizes_;
  std::vector<napi_value> results_;
};

}  // namespace nemotron_h::binding
