// The JavaScript class Graph: ops that capture() recorded, to be run again and again.
#pragma once

#include "binding/environment.h"

namespace nemotron_h::binding {

class GraphObject : public Napi::ObjectWrap<GraphObject> {
 public:
  static void define(Napi::Env env, Napi::Object exports);

  // (device, fn): records the ops that fn calls.
  explicit GraphObject(const Napi::CallbackInfo& info);

 private:
  static Napi::Value get_disposed(const Napi::CallbackInfo& info);
  void replay(const Napi::CallbackInfo& info);
  void dispose(const Napi::CallbackInfo&) { graph_ = nullptr; }

  Device* device_;
  std::unique_ptr<Graph> graph_;  // null: disposed
};

// Throws where ops are being recorded: what `function` does happens once, and is no op.
void refuse_in_capture(const Device& device, const char* function);

}  // namespace nemotron_h::binding
