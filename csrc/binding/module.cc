// What the addon exports: every line of ops.def as a function, the Tensor class, mapped files, and
// what was built.
#include <cmath>
#include <map>
#include <span>

#include "binding/call.h"
#include "binding/graph.h"
#include "binding/mapped_file.h"
#include "binding/simt.h"
#include "binding/tensor.h"
#include "cpu/parallel.h"
#include "cpu/simd/simd.h"
#include "cuda/devices.h"
#include "cuda/gemm/cublaslt/library.h"
#include "cuda/kernels.h"
#include "cuda/overlap.h"
#include "ops.h"

namespace nemotron_h::binding {

std::string describe(const Napi::Value& value) {
  switch (value.Type()) {
    case napi_undefined: return "undefined";
    case napi_null: return "null";
    case napi_boolean: return value.As<Napi::Boolean>() ? "true" : "false";
    case napi_number: return value.ToString().Utf8Value();
    case napi_string: {
      const std::string text = value.As<Napi::String>().Utf8Value();
      return text.size() <= 40 ? "'" + text + "'" : "a string";
    }
    case napi_function: return "a function";
    case napi_object:
      if (value.IsArray()) return "an array";
      if (value.IsTypedArray() || value.IsArrayBuffer() || value.IsPromise()) {
        const auto constructor = value.As<Napi::Object>().Get("constructor").As<Napi::Object>();
        const std::string name = constructor.Get("name").ToString().Utf8Value();
        return (name.starts_with('A') || name.starts_with('I') ? "an " : "a ") + name;
      }
      return TensorObject::from(value) ? "a tensor" : "an object";
    default: return "a value of another kind";
  }
}

std::string camel(std::string_view snake) {
  std::string s;
  for (size_t i = 0; i < snake.size(); ++i) {
    if (snake[i] == '_' && i + 1 < snake.size()) s += static_cast<char>(std::toupper(snake[++i]));
    else s += snake[i];
  }
  return s;
}

namespace {

template <class T>
T argument(const Value& v) {
  if constexpr (std::is_same_v<T, const Tensor&>) return v.tensor;
  else if constexpr (std::is_same_v<T, DType>) return static_cast<DType>(v.number);
  else return static_cast<T>(v.number);
}

template <class... P>
void call_op(void (*function)(P...), std::span<const Value> values) {
  [&]<size_t... I>(std::index_sequence<I...>) { function(argument<P>(values[I])...); }(std::index_sequence_for<P...>{});
}

// To the GPU that runs it: what the op reads and writes, so that launches may overlap.
void announce([[maybe_unused]] const Signature& signature, [[maybe_unused]] std::span<const Value> values) {
  if constexpr (cuda::kBuilt) {
    cuda::Overlap& overlap = cuda::overlap();
    overlap.begin_op();
    for (int i = 0; i < signature.count; ++i) {
      const Tensor& t = values[i].tensor;
      if (t) signature.params[i].mut || signature.params[i].out ? overlap.writes(t) : overlap.reads(t);
    }
  }
}

// The op as data, for scripts/types.mjs and the tests that walk the table.
Napi::Object describe_op(Napi::Env env, const char* name, const char* doc, const Signature& signature) {
  auto params = Napi::Array::New(env);
  for (int i = 0; i < signature.count; ++i) {
    const Param& p = signature.params[i];
    auto param = Napi::Object::New(env);
    param.Set("name", camel(p.name));
    param.Set("kind", kKindNames[static_cast<int>(p.kind)].data());
    param.Set("mut", p.mut);
    param.Set("view", p.view);
    param.Set("optional", p.optional);
    param.Set("out", p.out);
    if (p.kind == Kind::tensor || p.kind == Kind::dtype) param.Set("dtype", std::string(p.dtype.name));
    if (p.dtype_from >= 0) param.Set("dtypeFrom", camel(signature.params[p.dtype_from].name));
    if (p.kind == Kind::tensor) {
      auto dims = Napi::Array::New(env);
      for (int d = 0; d < p.rank; ++d) {
        const Dim& dim = p.dims[d];
        auto o = Napi::Object::New(env);
        if (dim.symbol >= 0) o.Set("symbol", std::string(signature.symbols[dim.symbol]));
        constexpr const char* kSigns[] = {"", "+", "-", "/"};
        if (dim.symbol >= 0 && dim.op != Dim::Op::none) o.Set("op", kSigns[static_cast<int>(dim.op)]);
        if (dim.symbol < 0 || dim.op != Dim::Op::none) o.Set("number", static_cast<double>(dim.number));
        dims.Set(d, o);
      }
      param.Set("dims", dims);
    }
    params.Set(i, param);
  }
  auto o = Napi::Object::New(env);
  o.Set("name", camel(name));
  o.Set("doc", doc);
  o.Set("params", params);
  return o;
}

template <class Op>
void bind_op(Napi::Object exports, Napi::Array table, OpFunction<Op>* on_cpu, OpFunction<Op>* on_cuda) {
  // Never destroyed: queued work names it, also while the process exits.
  static const std::string& kName = *new std::string(camel(Op::name));
  table.Set(table.Length(), describe_op(exports.Env(), Op::name, Op::doc, Op::signature));
  exports.Set(kName, Napi::Function::New(exports.Env(), [on_cpu, on_cuda](const Napi::CallbackInfo& info) -> Napi::Value {
    Call call(Op::name, Op::signature, info);
    Device& device = call.device();
    for (Value& v : call.values) {
      device.keep(v.tensor);
      v.tensor = v.tensor.borrowed();
    }
    const bool cuda = device.backend == Backend::cuda;
    device.submit(kName.c_str(), [cuda, function = cuda ? on_cuda : on_cpu, values = std::move(call.values)] {
      if (cuda) announce(Op::signature, values);
      call_op(function, values);
    });
    return call.results();
  }, kName));
}

// The names that a device can be opened by, as far as can be told without.
Napi::Value devices(const Napi::CallbackInfo& info) {
  auto names = Napi::Array::New(info.Env());
  names.Set(uint32_t{0}, Environment::of(info.Env()).cpu().name);
  if constexpr (cuda::kBuilt)
    for (const int index : cuda::usable()) names.Set(names.Length(), std::string(cuda::kName) + ":" + std::to_string(index));
  return names;
}

Napi::Value memory(const Napi::CallbackInfo& info) {
  const MemoryInfo m = Environment::of(info.Env()).device(info[0]).memory();
  auto o = Napi::Object::New(info.Env());
  o.Set("used", static_cast<double>(m.used));
  o.Set("cached", static_cast<double>(m.cached));
  o.Set("free", static_cast<double>(m.free));
  return o;
}

void release_cached(const Napi::CallbackInfo& info) { Environment::of(info.Env()).device(info[0]).release_cached(); }

void start_trace(const Napi::CallbackInfo& info) {
  Device& device = Environment::of(info.Env()).device(info[0]);
  if (device.tracing()) throw Napi::Error::New(info.Env(), "trace: " + device.name + " is traced already");
  device.begin_trace();
}

// Times in microseconds.
Napi::Array spans(Napi::Env env, const std::vector<Span>& list) {
  auto array = Napi::Array::New(env, list.size());
  for (uint32_t i = 0; i < list.size(); ++i) {
    auto span = Napi::Object::New(env);
    span.Set("name", list[i].op);
    span.Set("start", static_cast<double>(list[i].begin) / 1e3);
    span.Set("duration", static_cast<double>(list[i].end - list[i].begin) / 1e3);
    array.Set(i, span);
  }
  return array;
}

Napi::Value stop_trace(const Napi::CallbackInfo& info) {
  const Trace trace = Environment::of(info.Env()).device(info[0]).end_trace();
  auto o = Napi::Object::New(info.Env());
  o.Set("ran", spans(info.Env(), trace.ran));
  o.Set("launched", spans(info.Env(), trace.launched));
  return o;
}

void set_threads(const Napi::CallbackInfo& info) { cpu::set_threads(info[0].As<Napi::Number>().Int32Value()); }

Napi::Value use_simd(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), cpu::use_simd(info[0].As<Napi::String>().Utf8Value().c_str()));
}

// Settings of GPUs (cuda/kernels.h, gemm/cublaslt/library.h): without CUDA they change nothing.
void use_kernels(const Napi::CallbackInfo& info) {
  using cuda::Kernels;
  static const std::map<std::string_view, Kernels> names = {
      {"measured", Kernels::measured}, {"own", Kernels::own}, {"portable", Kernels::portable}, {"cublaslt", Kernels::cublaslt}};
  const std::string name = info[0].IsString() ? info[0].As<Napi::String>().Utf8Value() : "";
  const auto found = names.find(name);
  if (found == names.end())
    throw Napi::TypeError::New(info.Env(), "useKernels: kernels is " + describe(info[0]) +
                                               ", expected measured, own, portable or cublaslt");
  if constexpr (cuda::kBuilt) {
    if (found->second == Kernels::cublaslt) cuda::gemm::cublaslt::needed();
    cuda::use(found->second);
  }
}

void use_overlap(const Napi::CallbackInfo& info) {
  const std::string value = info[0].IsString() ? info[0].As<Napi::String>().Utf8Value() : "";
  if (value != "on" && value != "off")
    throw Napi::TypeError::New(info.Env(), "useOverlap: overlap is " + describe(info[0]) + ", expected on or off");
  if constexpr (cuda::kBuilt) cuda::use_overlap(value == "on");
}

void use_cublaslt([[maybe_unused]] const Napi::CallbackInfo& info) {
  if constexpr (cuda::kBuilt) cuda::gemm::cublaslt::load(info[0].As<Napi::String>());
}

Napi::Value build_info(const Napi::CallbackInfo& info) {
  auto o = Napi::Object::New(info.Env());
  o.Set("simd", cpu::simd().name);
  o.Set("threads", cpu::threads());
  if constexpr (cuda::kBuilt) o.Set("cuda", NEMOTRON_H_CUDA_VERSION);
  else o.Set("cuda", info.Env().Null());
  return o;
}

// 12040 as '12.4'.
std::string cuda_version(int number) {
  return std::to_string(number / 1000) + "." + std::to_string(number % 1000 / 10);
}

Napi::Value gpus(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if constexpr (!cuda::kBuilt) return env.Null();
  else {
    const cuda::Gpus all = cuda::gpus();
    auto devices = Napi::Array::New(env);
    for (const cuda::GpuInfo& gpu : all.devices) {
      auto device = Napi::Object::New(env);
      device.Set("name", gpu.name);
      device.Set("computeCapability", std::to_string(gpu.major) + "." + std::to_string(gpu.minor));
      device.Set("totalBytes", static_cast<double>(gpu.total_bytes));
      device.Set("freeBytes", static_cast<double>(gpu.free_bytes));
      if (!gpu.error.empty()) device.Set("error", gpu.error);
      devices.Set(devices.Length(), device);
    }
    auto o = Napi::Object::New(env);
    if (all.driver) o.Set("driver", cuda_version(all.driver));
    else o.Set("driver", env.Null());
    o.Set("runtime", cuda_version(all.runtime));
    if (!all.error.empty()) o.Set("error", all.error);
    if (const std::string library = cuda::gemm::cublaslt::found(); !library.empty()) o.Set("cublasLt", library);
    else o.Set("cublasLt", env.Null());
    o.Set("devices", devices);
    return o;
  }
}

Napi::Object init(Napi::Env env, Napi::Object exports) {
  env.SetInstanceData(new Environment(env));
  TensorObject::define(env, exports);
  MappedFile::define(env, exports);
  GraphObject::define(env, exports);
  exports.Set("devices", Napi::Function::New<devices>(env, "devices"));
  exports.Set("memory", Napi::Function::New<memory>(env, "memory"));
  exports.Set("releaseCached", Napi::Function::New<release_cached>(env, "releaseCached"));
  exports.Set("startTrace", Napi::Function::New<start_trace>(env, "startTrace"));
  exports.Set("stopTrace", Napi::Function::New<stop_trace>(env, "stopTrace"));
  exports.Set("setThreads", Napi::Function::New<set_threads>(env, "setThreads"));
  exports.Set("useSimd", Napi::Function::New<use_simd>(env, "useSimd"));
  exports.Set("useKernels", Napi::Function::New<use_kernels>(env, "useKernels"));
  exports.Set("useOverlap", Napi::Function::New<use_overlap>(env, "useOverlap"));
  exports.Set("useCublasLt", Napi::Function::New<use_cublaslt>(env, "useCublasLt"));
  exports.Set("buildInfo", Napi::Function::New<build_info>(env, "buildInfo"));
  exports.Set("gpus", Napi::Function::New<gpus>(env, "gpus"));
#ifdef NEMOTRON_H_SIMT
  exports.Set("simt", simt_object(env));
#endif
  auto table = Napi::Array::New(env);
  exports.Set("ops", table);
  if constexpr (cuda::kBuilt) {
#define OP(name, signature, doc) bind_op<op::name>(exports, table, cpu::name, cuda::name);
#include "ops.def"
#undef OP
  } else {
#define OP(name, signature, doc) bind_op<op::name>(exports, table, cpu::name, nullptr);
#include "ops.def"
#undef OP
  }
  return exports;
}

NODE_API_MODULE(nemotron_h, init)

}  // namespace
}  // namespace nemotron_h::binding
