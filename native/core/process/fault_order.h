// Failures that tests order, to see what happens after them. Only a build with TORCHREEL_FAULTS has them; in
// every other build these functions are empty. The environment variable TORCHREEL_FAULT, "kind:n", is read
// when a call begins; from then on the n-th place of that kind that is reached fails, once. The addon and the
// core count separately.
#pragma once

namespace torchreel::faults {

#ifdef TORCHREEL_FAULTS

void arm();                  // a call begins
bool due(const char* kind);  // a place of that kind is reached: whether it must fail

#else

inline void arm() {}
inline bool due(const char*) { return false; }

#endif

}  // namespace torchreel::faults
