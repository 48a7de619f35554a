// The op signature language.
//
//   "view x: act[T,D], weight: f32[D], eps: float -> y: act[T,D]"
//
// One string says what an op takes and gives. It is parsed by the C++ compiler, so a typo is a build
// error, and everything else about the op's interface is derived from it: the C++ function type, the
// argument checks and their messages, the allocation of results, the TypeScript declaration.
//
//   name: dtype[dims]      a tensor; the same letter is the same size everywhere
//   name?: dtype[dims]     a tensor that may be left out
//   mut name: ...          a tensor the op updates in place
//   view name: ...         a tensor whose rows may lie apart (Tensor::row_stride); others must be dense
//   name: float|int|bool   a scalar
//   name: dtype(class)     an element type of that class; results may be of it: `-> y: name[T,D]`
//   dtypes                 f32 bf16 f16 e4m3 e5m2 i32 u8, or a class:
//                          act = f32 | bf16, one choice for the whole call; fp8 = e4m3 | e5m2;
//                          real = any of the five float types; state = f32 | f16; kv = f32 | bf16 | e4m3
//   dims                   a symbol, a literal, SYMBOL+literal, SYMBOL-literal, or SYMBOL/literal, which
//                          rounds up; a symbol may be the name of an int parameter
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <string_view>
#include <utility>

#include "tensor.h"

namespace nemotron_h {

enum class Kind : uint8_t { tensor, number, integer, boolean, dtype };
inline constexpr std::string_view kKindNames[] = {"tensor", "float", "int", "bool", "dtype"};

// What element types a parameter may have: a set, with a name for messages.
struct DTypeClass {
  std::string_view name;
  uint8_t members = 0;  // bit i: DType i
  constexpr bool has(DType t) const { return members >> static_cast<int>(t) & 1; }
  constexpr bool single() const { return (members & (members - 1)) == 0; }
};
inline constexpr DTypeClass kClasses[] = {{"act", 0b0000011},  {"fp8", 0b0011000},  {"real", 0b0011111}, {"state", 0b0000101},
                                          {"kv", 0b0001011},   {"f32", 0b0000001},  {"bf16", 0b0000010},
                                          {"f16", 0b0000100},  {"e4m3", 0b0001000}, {"e5m2", 0b0010000},
                                          {"i32", 0b0100000},  {"u8", 0b1000000}};

struct Dim {
  enum class Op : uint8_t { none, plus, minus, over };
  int symbol = -1;      // index into Signature::symbols; -1: `number` alone
  Op op = Op::none;
  int64_t number = 0;   // the literal, or what is added, subtracted or divided by

  constexpr int64_t size(int64_t of_symbol) const {
    if (symbol < 0) return number;
    switch (op) {
      case Op::plus: return of_symbol + number;
      case Op::minus: return of_symbol - number;
      case Op::over: return (of_symbol + number - 1) / number;
      default: return of_symbol;
    }
  }
};

struct Param {
  std::string_view name;
  Kind kind = Kind::tensor;
  DTypeClass dtype{};
  int dtype_from = -1;  // the dtype parameter that chooses this result's element type
  bool mut = false, view = false, optional = false, out = false;
  int rank = 0;
  std::array<Dim, kMaxRank> dims{};
};

struct Signature {
  static constexpr int kMax = 24;
  int count = 0;
  std::array<Param, kMax> params{};
  int symbol_count = 0;
  std::array<std::string_view, kMax> symbols{};
  std::array<int, kMax> symbol_param{};  // the int parameter a symbol names, or -1
};

namespace detail {

// Calling a function that is not constexpr ends constant evaluation: the compiler then names it, with
// its argument, in the error.
inline void bad_signature(const char*) {}

struct Parser {
  std::string_view text;
  Signature sig{};

  static constexpr bool is_digit(char c) { return c >= '0' && c <= '9'; }
  static constexpr bool is_word(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || is_digit(c) || c == '_';
  }
  constexpr void skip_spaces() { while (!text.empty() && text[0] == ' ') text.remove_prefix(1); }
  constexpr bool eat(std::string_view token) {
    skip_spaces();
    if (!text.starts_with(token)) return false;
    text.remove_prefix(token.size());
    return true;
  }
  constexpr void need(std::string_view token, const char* why) { if (!eat(token)) bad_signature(why); }
  constexpr std::string_view word() {
    skip_spaces();
    size_t n = 0;
    while (n < text.size() && is_word(text[n])) ++n;
    if (n == 0) bad_signature("a name is missing");
    auto w = text.substr(0, n);
    text.remove_prefix(n);
    return w;
  }
  static constexpr int64_t number(std::string_view w) {
    int64_t v = 0;
    for (char c : w) {
      if (!is_digit(c)) bad_signature("a number is malformed");
      v = v * 10 + (c - '0');
    }
    return v;
  }
  constexpr int find(std::string_view name) const {
    for (int i = 0; i < sig.count; ++i)
      if (sig.params[i].name == name) return i;
    return -1;
  }
  static constexpr DTypeClass dtype_class(std::string_view name) {
    for (const auto& c : kClasses)
      if (c.name == name) return c;
    bad_signature("unknown type");
    return {};
  }
  constexpr int symbol(std::string_view name, bool may_define) {
    for (int i = 0; i < sig.symbol_count; ++i)
      if (sig.symbols[i] == name) return i;
    const int param = find(name);
    const bool is_int = param >= 0 && sig.params[param].kind == Kind::integer;
    if (!may_define && !is_int) bad_signature("a result has a size that no argument has");
    sig.symbols[sig.symbol_count] = name;
    sig.symbol_param[sig.symbol_count] = is_int ? param : -1;
    return sig.symbol_count++;
  }
  constexpr Dim dim(bool may_define) {
    auto w = word();
    if (is_digit(w[0])) return {-1, Dim::Op::none, number(w)};
    if (eat("/")) return {symbol(w, false), Dim::Op::over, number(word())};
    if (eat("+")) return {symbol(w, may_define), Dim::Op::plus, number(word())};
    if (eat("-")) return {symbol(w, may_define), Dim::Op::minus, number(word())};
    return {symbol(w, may_define), Dim::Op::none, 0};
  }
  constexpr void tensor(Param& p, std::string_view type) {
    const int from = find(type);
    if (p.out && from >= 0 && sig.params[from].kind == Kind::dtype) {
      p.dtype_from = from;
      p.dtype = sig.params[from].dtype;
    } else {
      p.dtype = dtype_class(type);
      if (p.out && !p.dtype.single() && p.dtype.name != "act") bad_signature("a result's type is not determined");
    }
    need("[", "a tensor needs its dims: dtype[A,B]");
    do {
      if (p.rank == kMaxRank) bad_signature("too many dims");
      p.dims[p.rank++] = dim(!p.out);
    } while (eat(","));
    need("]", "a ']' is missing");
  }
  constexpr void param(bool out) {
    Param p;
    p.out = out;
    p.name = word();
    for (bool more = true; more;) {
      more = false;
      if (p.name == "mut") { p.mut = more = true; p.name = word(); }
      if (p.name == "view") { p.view = more = true; p.name = word(); }
    }
    p.optional = eat("?");
    need(":", "a ':' is missing");
    auto type = word();
    if (type == "float") p.kind = Kind::number;
    else if (type == "int") p.kind = Kind::integer;
    else if (type == "bool") p.kind = Kind::boolean;
    else if (type == "dtype") {
      p.kind = Kind::dtype;
      need("(", "dtype needs its class: dtype(act)");
      p.dtype = dtype_class(word());
      need(")", "a ')' is missing");
    } else {
      tensor(p, type);
    }
    if (p.kind != Kind::tensor && (p.optional || p.mut || p.view)) bad_signature("only a tensor is optional, mut or view");
    if (out && (p.optional || p.mut || p.view)) bad_signature("a result is neither optional, mut nor view");
    if (sig.count == Signature::kMax) bad_signature("too many parameters");
    sig.params[sig.count++] = p;
  }
  constexpr Signature parse() {
    do param(false); while (eat(","));
    if (eat("->")) do param(true); while (eat(","));
    skip_spaces();
    if (!text.empty()) bad_signature("trailing text");
    return sig;
  }
};

template <Kind> struct Cpp;
template <> struct Cpp<Kind::tensor> { using type = const Tensor&; };
template <> struct Cpp<Kind::number> { using type = float; };
template <> struct Cpp<Kind::integer> { using type = int64_t; };
template <> struct Cpp<Kind::boolean> { using type = bool; };
template <> struct Cpp<Kind::dtype> { using type = DType; };

template <class T> struct Type { using type = T; };
template <class Op, size_t... I>
Type<void(typename Cpp<Op::signature.params[I].kind>::type...)> function_of(std::index_sequence<I...>);

}  // namespace detail

constexpr Signature parse(std::string_view text) { return detail::Parser{text}.parse(); }

// The C++ type of an op: its parameters in order, results last.
template <class Op>
using OpFunction = typename decltype(detail::function_of<Op>(std::make_index_sequence<Op::signature.count>{}))::type;

}  // namespace nemotron_h
