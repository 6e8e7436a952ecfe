#include "process/job_checks.h"

#include <ATen/TensorOperators.h>

#include "process/error.h"

namespace torchreel {

void stop_if_cancelled(const torchreel_listener& listener) {
  if (listener.cancelled(listener.context)) throw Error("ABORTED", "the job was cancelled");
}

void check_finite(const at::Tensor& tensor, const std::string& network, const char* stage, int64_t step) {
  if (tensor.isfinite().all().item<bool>()) return;
  throw Error("ERR_NUMERIC",
              network +
                  " gave NaN or infinity. Either float16 overflowed or the weights are broken: try dtype "
                  "'float32', or 'bfloat16', which has the range of float32",
              stage, step);
}

}  // namespace torchreel
