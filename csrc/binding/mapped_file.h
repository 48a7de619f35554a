// The JavaScript class MappedFile: a checkpoint file in memory without reading it, and tensors copied from it.
#pragma once

#include "binding/napi.h"

namespace nemotron_h::binding {

struct Mapping;

class MappedFile : public Napi::ObjectWrap<MappedFile> {
 public:
  static void define(Napi::Env env, Napi::Object exports);
  explicit MappedFile(const Napi::CallbackInfo& info);

 private:
  Napi::Value tensor(const Napi::CallbackInfo& info);
  Napi::Value close(const Napi::CallbackInfo& info);

  std::shared_ptr<Mapping> mapping_;
};

}  // namespace nemotron_h::binding
