// node-addon-api, and how its values read in error messages.
#pragma once

#include <napi.h>

#include <string>

namespace nemotron_h::binding {

// "a string", "null", "1.5": what a caller passed, for `op: argument is FOUND, expected EXPECTED`.
std::string describe(const Napi::Value& value);

// rms_norm -> rmsNorm
std::string camel(std::string_view snake);

}  // namespace nemotron_h::binding
