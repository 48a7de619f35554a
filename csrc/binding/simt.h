// What the emulator's test build exports beside the rest, as `simt`.
#pragma once

#include "binding/napi.h"

namespace nemotron_h::binding {

Napi::Object simt_object(Napi::Env env);

}  // namespace nemotron_h::binding
