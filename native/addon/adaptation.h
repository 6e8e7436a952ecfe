// What adapters change in a network, copied from JavaScript:
// { updates: [{ weight, file, up, down, alpha?, scale }], rows: [{ weight, file, tensor }] }.
#pragma once

#include <napi.h>

#include <string>
#include <vector>

#include "torchreel_core.h"

class Adaptation {
 public:
  explicit Adaptation(const Napi::Object& adaptation);

  // `call` gets a view that is valid during the call.
  template <typename Call>
  int view(Call&& call) const {
    std::vector<torchreel_update> updates;
    for (const Update& update : updates_) {
      updates.push_back({update.weight.c_str(), update.file.c_str(), update.up.c_str(), update.down.c_str(),
                         update.alpha.empty() ? nullptr : update.alpha.c_str(), update.scale});
    }
    std::vector<torchreel_rows> rows;
    for (const Rows& more : rows_)
      rows.push_back({more.weight.c_str(), more.file.c_str(), more.tensor.c_str()});
    torchreel_adaptation whole{updates.data(), updates.size(), rows.data(), rows.size()};
    return call(whole);
  }

 private:
  struct Update {
    std::string weight, file, up, down, alpha;
    double scale;
  };
  struct Rows {
    std::string weight, file, tensor;
  };

  std::vector<Update> updates_;
  std::vector<Rows> rows_;
};
