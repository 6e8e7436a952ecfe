#include "adaptation.h"

#include "arguments.h"

Adaptation::Adaptation(const Napi::Object& adaptation) {
  auto text = [](const Napi::Object& object, const char* name) {
    return string_argument(object.Get(name), name);
  };
  for (const Napi::Object& update : objects_argument(adaptation.Get("updates"), "updates")) {
    Napi::Value alpha = update.Get("alpha");
    updates_.push_back({text(update, "weight"), text(update, "file"), text(update, "up"),
                        text(update, "down"), alpha.IsUndefined() ? "" : string_argument(alpha, "alpha"),
                        number_argument(update.Get("scale"), "scale")});
  }
  for (const Napi::Object& rows : objects_argument(adaptation.Get("rows"), "rows"))
    rows_.push_back({text(rows, "weight"), text(rows, "file"), text(rows, "tensor")});
}
