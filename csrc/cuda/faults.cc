#include "cuda/faults.h"

#include <sstream>

#include "checks.h"

namespace nemotron_h::cuda {
namespace {

const char* text_of(Name name) {
  switch (name) {
    case Name::none: return "";
    case Name::ids: return "ids";
    case Name::tokens: return "tokens";
    case Name::past: return "past";
    case Name::slots: return "slots";
    case Name::saves: return "saves";
    case Name::pages: return "pages";
    case Name::temperature: return "temperature";
    case Name::top_k: return "topK";
    case Name::top_p: return "topP";
    case Name::min_p: return "minP";
    case Name::repetition: return "repetition";
    case Name::frequency: return "frequency";
    case Name::presence: return "presence";
  }
  return "";
}

}  // namespace

std::string describe(const Report& r) {
  std::ostringstream text;
  const auto at = [&](const char* name) -> std::ostream& {
    text << name << "[" << r.i;
    if (r.j >= 0) text << "," << r.j;
    return text << "] is ";
  };
  const auto number = [&](const char* expected) {
    at(text_of(r.name));
    text << (r.number != r.number ? "NaN" : shortest(static_cast<float>(r.number))) << ", expected " << expected;
  };
  switch (r.rule) {
    case Rule::none: break;
    case Rule::index: at(text_of(r.name)) << r.value << ", expected 0 to " << r.limit; break;
    case Rule::from_1: at(text_of(r.name)) << r.value << ", expected 1 to " << r.limit; break;
    case Rule::more: at(text_of(r.name)) << r.value << ", expected more than " << r.limit; break;
    case Rule::chunk_end:
      at(text_of(r.name)) << r.value << ", expected the end of a sequence or of a chunk of " << r.limit;
      break;
    case Rule::slot_free:
      at(text_of(r.name)) << r.value << ", expected a slot that neither slots nor another row names";
      break;
    case Rule::first_offset: text << "offsets[0] is " << r.value << ", expected 0"; break;
    case Rule::last_offset:
      at("offsets") << r.value << ", expected " << r.limit << ", the number of " << text_of(r.name);
      break;
    case Rule::rising: at("offsets") << r.value << ", expected at least " << r.limit; break;
    case Rule::not_empty:
      at("offsets") << r.value << ", expected more than " << r.limit << ", as no sequence may be empty";
      break;
    case Rule::not_negative: at(text_of(r.name)) << r.value << ", expected at least 0"; break;
    case Rule::slot_twice: text << "slots names " << r.value << " twice, expected a slot for each sequence"; break;
    case Rule::page_twice:
      text << "pages names " << r.value << " twice, expected a page of its own wherever tokens are written";
      break;
    case Rule::too_long:
      text << "sequence " << r.i << " is " << r.value << " tokens with its past, expected at most " << r.limit << ", "
           << r.j << " pages of " << (r.j ? r.limit / r.j : 0);
      break;
    case Rule::finite: number("a finite number"); break;
    case Rule::finite_above_0: number("a finite number above 0"); break;
    case Rule::finite_from_0: number("a finite number, at least 0"); break;
    case Rule::above_0_to_1: number("above 0, at most 1"); break;
    case Rule::from_0_to_1: number("0 to 1"); break;
  }
  return text.str();
}

}  // namespace nemotron_h::cuda
