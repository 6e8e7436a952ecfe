#ifdef TORCHREEL_FAULTS

#include "process/fault_order.h"

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <string>

namespace torchreel::faults {
namespace {

struct Order {
  std::string kind;                // written only by `arm`, while nothing else runs
  std::atomic<int64_t> places{0};  // until the failure; 0: no failure is ordered
};

Order& order() {
  static auto* const one = new Order;
  return *one;
}

}  // namespace

void arm() {
  const char* given = std::getenv("TORCHREEL_FAULT");
  std::string text = given ? given : "";
  size_t colon = text.find(':');
  order().kind = text.substr(0, colon);
  order().places = colon == std::string::npos ? 0 : std::stoll(text.substr(colon + 1));
}

bool due(const char* kind) { return order().kind == kind && order().places > 0 && --order().places == 0; }

}  // namespace torchreel::faults

#endif
