// The pool of large CPU tensors: who gets its memory, that it is used again, and that it is given back.
#include "process/cpu_memory.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>

#include <optional>
#include <thread>
#include <vector>

#include "check.h"

using torchreel::PooledMemory;

namespace {

at::Tensor tensor(int64_t megabytes) { return at::full({megabytes << 18}, 7, at::kFloat); }

void test_reuse() {
  check(PooledMemory::held() == 0, "at first the pool holds nothing");
  PooledMemory pooled;
  at::Tensor one = tensor(3), other = tensor(5);
  size_t held = PooledMemory::held();
  check(held > 0, "large tensors come from the pool");
  void *first = one.data_ptr(), *second = other.data_ptr();
  one = other = at::Tensor();
  check(tensor(8).data_ptr() == first, "free neighbours are one block");
  one = tensor(3);
  other = tensor(5);
  check(one.data_ptr() == first && other.data_ptr() == second, "and are cut again as before");
  one = at::Tensor();
  at::Tensor small = tensor(1), rest = tensor(1);
  check(small.data_ptr() == first && rest.data_ptr() < second,
        "the smallest block that is large enough is cut");
  check(PooledMemory::held() == held, "what is free is used before more is asked for");
  std::vector<at::Tensor> many;
  for (int i = 0; i < 50; ++i) many.push_back(tensor(i % 7 + 1));
  for (int i = 0; i < 50; i += 2) many[i] = at::Tensor();
  for (int i = 0; i < 50; i += 2) many[i] = tensor(i % 5 + 1);
  for (const at::Tensor& each : many) check(each.eq(7).all().item<bool>(), "no two tensors share memory");
  at::Tensor huge = at::empty({int64_t{300} << 20}, at::kByte);
  check(PooledMemory::held() >= held + huge.nbytes(), "a tensor larger than a segment gets a larger one");
}

void test_given_back() {
  check(PooledMemory::held() == 0, "with the last job the pool gives everything back");
  std::optional<PooledMemory> outer(std::in_place), inner(std::in_place);
  at::Tensor kept = tensor(4);
  inner.reset();
  check(tensor(4).eq(7).all().item<bool>() && PooledMemory::held() > 0, "the outer one still pools");
  outer.reset();
  check(PooledMemory::held() > 0 && kept.eq(7).all().item<bool>(), "a tensor outlives the jobs");
  std::thread([&] { kept = at::Tensor(); }).join();
  check(PooledMemory::held() == 0, "and its memory goes back with it, on any thread");
}

void test_others() {
  PooledMemory pooled;
  std::thread([] {
    check(tensor(4).eq(7).all().item<bool>() && PooledMemory::held() == 0, "other threads have malloc");
  }).join();
  at::Tensor small = at::full({100}, 7);
  check(PooledMemory::held() == 0, "and so have small tensors");
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([i] {
      PooledMemory mine;
      for (int n = 0; n < 200; ++n) {
        at::Tensor one = at::full({(n % 9 + 1) << 15}, i), other = at::full({(n % 5 + 1) << 15}, n);
        check(one.eq(i).all().item<bool>() && other.eq(n).all().item<bool>(), "threads keep apart");
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace

int main() {
  test_reuse();
  test_given_back();
  test_others();
  return 0;
}
