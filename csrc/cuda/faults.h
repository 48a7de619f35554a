// What a kernel finds wrong with the numbers in its tensors, which only the GPU has: kept on the device, told by
// the next read in the words of the CPU backend.
#pragma once

#include <cstdint>
#include <string>

namespace nemotron_h::cuda {

enum class Rule : int {
  none,
  index,         // name[i] or name[i,j] is value, expected 0 to limit
  from_1,        // name[i,j] is value, expected 1 to limit
  more,          // name[i,j] is value, expected more than limit
  chunk_end,     // name[i,j] is value, expected the end of a sequence or of a chunk of limit
  slot_free,     // name[i,j] is value, expected a slot that neither slots nor another row names
  first_offset,  // offsets[0] is value, expected 0
  last_offset,   // offsets[i] is value, expected limit, the number of name
  rising,        // offsets[i] is value, expected at least limit
  not_empty,     // offsets[i] is value, expected more than limit, as no sequence may be empty
  not_negative,  // name[i] is value, expected at least 0
  slot_twice,    // slots names value twice, expected a slot for each sequence
  page_twice,    // pages names value twice, expected a page of its own wherever tokens are written
  too_long,      // sequence i is value tokens with its past, expected at most limit, j pages of limit / j
  // name[i] is number, expected
  finite,           // a finite number
  finite_above_0,   // a finite number above 0
  finite_from_0,    // a finite number, at least 0
  above_0_to_1,     // above 0, at most 1
  from_0_to_1,      // 0 to 1
};

// An argument, or what offsets count; not its text, as a kernel's strings lie on the device.
enum class Name : int {
  none, ids, tokens, past, slots, saves, pages, temperature, top_k, top_p, min_p, repetition, frequency, presence
};

struct Report {
  Rule rule;
  Name name;
  const char* op;  // on the host, and only read there
  int64_t i, j;    // j: -1 where there is one index only
  int64_t value, limit;
  double number;
};

struct Fault {
  int claimed;  // by the first to report: what comes later is dropped
  Report report;
};

// "ids[3] is 999, expected 0 to 95"
std::string describe(const Report& report);

}  // namespace nemotron_h::cuda
