#include "parallel.h"

#include <ATen/TensorIterator.h>
#include <ATen/ops/empty.h>

namespace torchreel {

void in_parallel(int64_t count, int64_t grain, c10::function_ref<void(int64_t, int64_t)> work) {
  if (count <= grain) return work(0, count);
  // libtorch iterates over one byte for each piece of work. The bytes are neither read nor written.
  at::Tensor pieces = at::empty({count}, at::kByte);
  const char* first = static_cast<const char*>(pieces.const_data_ptr());
  auto part = [&](char** data, const int64_t*, int64_t columns, int64_t rows) {
    int64_t begin = data[0] - first;
    work(begin, begin + columns * rows);
  };
  at::TensorIterator::nullary_op(pieces).for_each(part, grain);
}

}  // namespace torchreel
