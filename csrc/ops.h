// From ops.def: one type per op, with its signature, and the declaration of its function on each device.
#pragma once

#include "signature.h"

namespace nemotron_h {

// nvcc 13 mishandles strings as template arguments; a type that carries the signature works everywhere.
namespace op {
#define OP(op_name, op_signature, op_doc)                    \
  struct op_name {                                           \
    static constexpr const char* name = #op_name;            \
    static constexpr const char* doc = op_doc;               \
    static constexpr Signature signature = parse(op_signature); \
  };
#include "ops.def"
#undef OP
}  // namespace op

namespace cpu {
#define OP(name, signature, doc) OpFunction<op::name> name;
#include "ops.def"
#undef OP
}  // namespace cpu

namespace cuda {
#define OP(name, signature, doc) OpFunction<op::name> name;
#include "ops.def"
#undef OP
}  // namespace cuda

}  // namespace nemotron_h
