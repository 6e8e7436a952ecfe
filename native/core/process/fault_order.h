// Failures on order, so that tests can see what happens after them. Only a build with TORCHREEL_FAULTS takes
// orders; in every other these calls are empty. The environment variable TORCHREEL_FAULT, "kind:n", is read
// when a call begins, and the n-th place of that kind that is passed from then on fails, once. The addon and
// the core each count for themselves.
#pragma once

namespace torchreel::faults {

#ifdef TORCHREEL_FAULTS

void arm();                  // a call begins
bool due(const char* kind);  // a place of that kind is passed: whether it is to fail

#else

inline void arm() {}
inline bool due(const char*) { return false; }

#endif

}  // namespace torchreel::faults
