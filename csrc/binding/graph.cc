#include "binding/graph.h"

#include "binding/tensor.h"

namespace nemotron_h::binding {
namespace {

const napi_type_tag kTag = random_tag();

Napi::Value capture(const Napi::CallbackInfo& info) {
  return Environment::of(info.Env()).graph_constructor.New({info[0], info[1]});
}

}  // namespace

void refuse_in_capture(const Device& device, const char* function) {
  if (device.capturing()) throw std::logic_error(std::string("capture: fn calls ") + function + ", expected ops only");
}

void GraphObject::define(Napi::Env env, Napi::Object exports) {
  auto constructor = DefineClass(env, "Graph", {
    InstanceMethod<&GraphObject::replay>("replay"),
    InstanceMethod<&GraphObject::dispose>("dispose"),
  });
  constructor.Get("prototype").As<Napi::Object>().DefineProperties({
    Napi::PropertyDescriptor::Accessor<get_disposed>("disposed", napi_enumerable),
  });
  Environment::of(env).graph_constructor = Napi::Persistent(constructor);
  exports.Set("Graph", constructor);
  exports.Set("capture", Napi::Function::New<capture>(env, "capture"));
}

GraphObject::GraphObject(const Napi::CallbackInfo& info) : ObjectWrap(info) {
  device_ = &Environment::of(info.Env()).device(info[0]);
  if (!info[1].IsFunction()) throw Napi::TypeError::New(info.Env(), "capture: fn is " + describe(info[1]) + ", expected a function");
  refuse_in_capture(*device_, "capture");
  device_->begin_capture();
  try {
    const Napi::Value result = info[1].As<Napi::Function>().Call({});
    if (result.IsPromise()) throw Napi::TypeError::New(info.Env(), "capture: fn gave a promise, expected a synchronous function");
  } catch (...) {
    device_->cancel_capture();
    throw;
  }
  graph_ = device_->end_capture();
  info.This().As<Napi::Object>().TypeTag(&kTag);
}

Napi::Value GraphObject::get_disposed(const Napi::CallbackInfo& info) {
  const auto self = info.This().As<Napi::Object>();
  if (!info.This().IsObject() || !self.CheckTypeTag(&kTag))
    throw Napi::TypeError::New(info.Env(), "Graph: this is " + describe(info.This()) + ", expected a graph");
  return Napi::Boolean::New(info.Env(), Unwrap(self)->graph_ == nullptr);
}

void GraphObject::replay(const Napi::CallbackInfo& info) {
  if (!graph_) throw Napi::Error::New(info.Env(), "replay: the graph is disposed");
  refuse_in_capture(*device_, "replay");
  device_->replay(*graph_);
}

}  // namespace nemotron_h::binding
