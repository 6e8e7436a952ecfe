// The device for tests computes as the CPU does, and each thing that a GPU does not forgive is seen.
#include "accelerator.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/conv2d.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/full.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/group_norm.h>
#include <ATen/ops/layer_norm.h>
#include <ATen/ops/quantile.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/Event.h>
#include <c10/core/InferenceMode.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <optional>
#include <thread>

#include "check.h"

namespace {

const at::Device zero(at::kPrivateUse1, 0), one(at::kPrivateUse1, 1);

c10::impl::VirtualGuardImpl streams() { return {at::kPrivateUse1}; }
c10::Stream pooled() { return streams().getStreamFromGlobalPool(zero); }
void wait(at::Device device = zero) { streams().getStream(device).synchronize(); }

// `work` is a violation whose text holds all the words.
template <typename Work>
void violates(const std::vector<std::string>& words, Work&& work) {
  work();
  std::string all;
  for (const std::string& violation : accelerator::violations()) all += violation + "\n";
  for (const std::string& word : words)
    check(all.find(word) != std::string::npos, "'" + word + "' is in: " + (all.empty() ? "nothing" : all));
}

void is_clean(const std::string& what) {
  std::string all;
  for (const std::string& violation : accelerator::violations()) all += "\n" + violation;
  check(all.empty(), what + " is no violation:" + all);
}

void test_numbers() {
  at::Tensor x = at::randn({2, 8, 6, 6}), weight = at::randn({4, 8, 3, 3}), bias = at::randn({4});
  at::Tensor rows = at::randn({6, 8}), table = at::randn({8, 5}), scale = at::randn({8});
  using Function = std::function<at::Tensor(const std::function<at::Tensor(const at::Tensor&)>&)>;
  const std::pair<const char*, Function> functions[] = {
      {"a sum", [&](auto on) { return on(rows) + on(rows) * 2.5; }},
      {"a product", [&](auto on) { return at::addmm(on(rows).narrow(1, 0, 5), on(rows), on(table)); }},
      {"a convolution", [&](auto on) { return at::conv2d(on(x), on(weight), on(bias), 1, 1); }},
      {"one with the channels last",
       [&](auto on) { return at::conv2d(on(x).contiguous(at::MemoryFormat::ChannelsLast), on(weight)); }},
      {"group norm", [&](auto on) { return at::group_norm(on(x), 2, on(scale), on(scale)); }},
      {"layer norm", [&](auto on) { return at::layer_norm(on(rows), {8}, on(scale), on(scale)); }},
      {"attention", [&](auto on) { return at::scaled_dot_product_attention(on(x), on(x), on(x)); }},
      {"softmax", [&](auto on) { return on(rows).softmax(-1); }},
      {"gelu", [&](auto on) { return at::gelu(on(rows)); }},
      {"a quantile", [&](auto on) { return at::quantile(on(rows).to(at::kFloat), 0.9, -1); }},
      {"views", [&](auto on) { return on(x).transpose(1, 2).flatten(0, 1).slice(1, 1, 7, 2).unsqueeze(0); }},
      {"pieces",
       [&](auto on) {
         return at::cat({on(rows).slice(0, 0, 2), on(rows).slice(0, 4)}, 0);
       }},
      {"a choice", [&](auto on) { return at::where(on(rows) > 0, on(rows), at::zeros_like(on(rows))); }},
      {"in place", [&](auto on) { return on(rows).clone().mul_(3).clamp_(-1, 1).nan_to_num_(0); }},
      {"unfolded", [&](auto on) { return on(rows).unfold(1, 3, 2).contiguous(); }},
  };
  auto here = [](const at::Tensor& tensor) { return tensor; };
  auto half = [](const at::Tensor& tensor) { return tensor.to(at::kHalf).to(at::kFloat); };
  auto there = [](const at::Tensor& tensor) { return tensor.to(zero); };
  auto half_there = [](const at::Tensor& tensor) { return tensor.to(zero, at::kHalf); };
  for (const auto& [name, function] : functions) {
    at::Tensor wanted = function(here), given = function(there);
    check(given.device() == zero && given.strides() == wanted.strides(),
          std::string(name) + " lies on the device");
    check(given.cpu().equal(wanted), std::string(name) + " is the CPU's to the bit");
    at::Tensor rounded = function(half), of_half = function(half_there);
    double error = (of_half.cpu().to(at::kFloat) - rounded).abs().max().item<double>();
    check(error <= 2e-3 * std::max(1.0, rounded.abs().max().item<double>()),
          std::string(name) + " in half precision is float32's, rounded: " + std::to_string(error));
  }
  at::Tensor product = (rows.to(zero, at::kBFloat16).matmul(table.to(zero, at::kBFloat16)));
  check(product.scalar_type() == at::kBFloat16, "products of bfloat16 are bfloat16");
  at::Tensor wide = rows.to(at::kBFloat16).to(at::kFloat).matmul(table.to(at::kBFloat16).to(at::kFloat));
  check(product.cpu().equal(wide.to(at::kBFloat16)), "and rounded once");
  check((rows.to(zero, at::kHalf) * rows.to(zero)).scalar_type() == at::kFloat, "half times float is float");
  check(at::full({2}, 1.5, at::TensorOptions(one)).sum().item<double>() == 3, "a number is read");
  check(at::equal(rows.to(zero), rows.to(zero)), "and a comparison");
  is_clean("computing");
}

void test_host() {
  at::Tensor there = at::full({3, 4}, 2.0, at::TensorOptions(zero));
  auto* data = static_cast<volatile float*>(there.data_ptr());
  violates({"the host read from memory of standin:0", "Float [3, 4]", "aten::fill_"}, [&] { (void)data[1]; });
  violates({"the host wrote to memory of standin:0"}, [&] { data[1] = 1; });
  violates({"the host read from"}, [&] { (void)at::from_blob(there.data_ptr(), {3}).sum(); });
  at::Tensor fresh = at::empty({2}, at::TensorOptions(zero));
  check(fresh.isnan().all().item<bool>(), "new memory holds no numbers");
  is_clean("asking libtorch");
}

void test_mixing() {
  at::Tensor host = at::randn({2, 2}), there = host.to(zero), other = host.to(one);
  const std::string words = "Expected all tensors to be on the same device, but found at least two devices, ";
  refuses(words, [&] { there + host; });
  refuses(words, [&] { at::addmm(there, there, host); });
  refuses(words, [&] { there.add_(other); });
  refuses(words, [&] { at::cat({there, host}); });
  refuses(words, [&] { host.add_(there); });
  check((there * at::full({}, 2.0)).cpu().equal(host * 2), "a number of the host is taken");
  refuses(words, [&] { there + at::full({2, 2}, 1.0, at::TensorOptions(at::kPrivateUse1)).to(one); });
  at::Tensor unnamed = at::empty({2}, at::TensorOptions(at::kPrivateUse1));
  check(unnamed.device() == zero, "a device without a number is the current one");
  std::thread([] {
    streams().setDevice(one);
    check(at::empty({2}, at::TensorOptions(at::kPrivateUse1)).device() == one, "of this thread");
  }).join();
  check(at::empty({2}, at::TensorOptions(at::kPrivateUse1)).device() == zero, "and of no other");
  check(there.to(one).cpu().equal(host), "a copy goes from one device to another");
  is_clean("a number");
}

void test_races() {
  at::Tensor x = at::zeros({8}, at::TensorOptions(zero));
  c10::Stream side = pooled();
  auto on_side = [&](auto&& work) {
    c10::StreamGuard guard(side);
    work();
  };
  wait();
  on_side([&] { x.add_(1); });
  violates({"a race: ", " on stream 0 of standin:0 reads Float [8]", "aten::add"}, [&] { x * 2; });
  side.synchronize();
  x.mul(2);
  is_clean("waiting for the stream");

  violates({"a race: ", "writes", "which aten::mul read"}, [&] { on_side([&] { x.add_(1); }); });
  side.synchronize();
  wait();
  c10::Event event(at::kPrivateUse1);
  on_side([&] { x.add_(1); });
  event.record(side);
  event.block(streams().getStream(zero));
  x.mul(2);
  is_clean("an event");
  event.synchronize();
  wait();

  // Memory is of the stream that was current when it was made.
  at::Tensor fresh = at::empty({8}, at::TensorOptions(zero));
  x.add_(1);
  violates({"a race"}, [&] {
    fresh = at::empty({8}, at::TensorOptions(zero));
    on_side([&] { fresh.fill_(1); });
  });
  side.synchronize();
  wait();
}

void test_memory_in_use() {
  c10::Stream side = pooled();
  wait();
  auto use = [&](bool recorded) {
    at::Tensor x = at::zeros({100}, at::TensorOptions(zero));
    wait();
    c10::StreamGuard guard(side);
    at::Tensor y = x + 1;
    if (recorded) x.record_stream(side);
  };
  violates({"memory of stream 0 of standin:0 was given back and taken again while aten::add", "Float [100]"},
           [&] {
             use(false);
             at::empty({1}, at::TensorOptions(zero));
           });
  use(true);
  at::empty({1}, at::TensorOptions(zero));
  is_clean("memory that a stream was recorded for");
  use(false);
  side.synchronize();
  at::empty({1}, at::TensorOptions(zero));
  is_clean("memory whose user was waited for");
}

void test_copies() {
  at::Tensor host = at::randn({4, 4}), pinned = host.pin_memory();
  check(pinned.is_pinned() && !host.is_pinned(), "memory is page-locked");
  check(accelerator::pinned_bytes() == 4096, "by the page");
  accelerator::reset_counters();
  auto counted = [] {
    accelerator::Counters of = accelerator::counters(0);
    accelerator::reset_counters();
    return std::to_string(of.to_device) + " " + std::to_string(of.to_host) + " " +
           std::to_string(of.synchronizations) + " " + std::to_string(of.launches);
  };
  auto counts = [&](const std::string& wanted, const std::string& what) {
    std::string given = counted();
    check(given == wanted, what + ": " + wanted + ", not " + given);
  };
  at::Tensor there = host.to(zero);
  counts("64 0 1 0", "a copy from pageable memory waits");
  there = host.to(zero, /*non_blocking=*/true);
  counts("64 0 1 0", "even if it need not");
  there = pinned.to(zero, at::kFloat, /*non_blocking=*/true);
  counts("64 0 0 0", "a copy from page-locked memory does not");
  violates({"the host wrote to page-locked memory that a copy reads"}, [&] { pinned.fill_(1); });
  wait();
  counts("0 0 1 0", "waiting is counted");
  pinned.fill_(2);
  is_clean("writing to what was copied");
  at::Tensor back = there.cpu();
  counts("0 64 1 0", "what comes back waits");
  back = there.to(at::kCPU, at::kFloat, /*non_blocking=*/true);
  counts("0 64 0 0", "unless it goes to page-locked memory");
  violates({"the host read from page-locked memory that a copy writes"}, [&] { back.sum(); });
  wait();
  back.sum();
  is_clean("reading what came back");
  counted();
  there.to(at::kHalf);
  counts("0 0 0 1", "a copy on the device is a kernel");
  host.to(zero, at::kHalf);
  counts("32 0 1 0", "what goes over has the type that it is to have");
  there.narrow(1, 0, 2).copy_(host.narrow(1, 0, 2));
  counts("32 0 1 1", "and one piece");
  there.sum().item<float>();
  counts("0 4 1 1", "a number that is read is waited for");
}

void test_memory() {
  accelerator::DeviceMemory before = accelerator::memory(1);
  accelerator::reset_peak();
  auto on_one = at::TensorOptions(one);
  {
    at::Tensor x = at::empty({1000}, on_one);
    { at::Tensor y = at::empty({1000}, on_one); }
    accelerator::DeviceMemory memory = accelerator::memory(1);
    check(memory.allocated == before.allocated + 4096, "bytes are counted, in pieces of 512");
    check(memory.peak == before.allocated + 8192, "and the most that they were");
    check(memory.allocated_on[0] == memory.allocated, "by stream");
    auto statistics = at::getDeviceAllocator(at::kPrivateUse1)->getDeviceStats(1);
    check(statistics.allocated_bytes[0].current == memory.allocated, "as libtorch's statistics say");
  }
  check(accelerator::memory(1).allocated == before.allocated, "and go back");
  accelerator::limit_memory(1, 1 << 20);
  at::Tensor fits = at::empty({200'000}, on_one);
  refuses<c10::OutOfMemoryError>(
      "out of memory. Tried to allocate 0.76 MiB. GPU 1 has a total capacity of 1.00 MiB",
      [&] { at::empty({200'000}, on_one); });
  fits = at::Tensor();
  fits = at::empty({200'000}, on_one);
  accelerator::limit_memory(1, 0);
  accelerator::refuse_allocation(1, 2);
  at::empty({1}, on_one);
  refuses<c10::OutOfMemoryError>("out of memory", [&] { at::empty({1}, on_one); });
  at::empty({1}, on_one);
  is_clean("a refusal");
}

void test_lost() {
  at::Tensor x = at::zeros({2}, at::TensorOptions(one));
  accelerator::lose_device(1, 2);
  x.add_(1);
  x.add_(1);  // the host does not know yet
  refuses("CUDA error: an illegal memory access was encountered", [&] { x.cpu(); });
  refuses("CUDA error", [&] { x.add_(1); });
  refuses("CUDA error", [&] { wait(one); });
  refuses("CUDA error", [&] { at::empty({1}, at::TensorOptions(one)); });
  at::zeros({1}, at::TensorOptions(zero)).cpu();  // the other device works
  accelerator::restore();
  check(x.cpu().equal(at::full({2}, 2.0)), "a device that is there again works");
  is_clean("a lost device");
}

void test_recording() {
  at::Tensor host = at::randn({4, 4}), x = host.to(zero), y;
  c10::Stream side = pooled();
  std::optional<accelerator::Recording> recording;
  at::Tensor weight = at::full({4, 4}, 2.0, at::TensorOptions(zero));
  wait();
  auto record = [&] {
    recording.emplace();
    c10::StreamGuard guard(side);
    recording->begin();
    y = at::gelu(x * weight) + at::addmm(x, x, weight);
    refuses("operation not permitted when stream is capturing", [&] { y.cpu(); });
    refuses("operation not permitted when stream is capturing", [&] { side.synchronize(); });
    recording->end();
  };
  auto replay = [&] {
    c10::StreamGuard guard(side);
    recording->replay();
    side.synchronize();
  };
  record();
  check(y.isnan().all().item<bool>(), "what is recorded is not done");
  auto wanted = [&](const at::Tensor& x) { return at::gelu(x * 2) + at::addmm(x, x, at::full({4, 4}, 2.0)); };
  accelerator::reset_counters();
  replay();
  check(accelerator::counters(0).launches == 1, "a recording is launched as a whole");
  check(y.cpu().equal(wanted(host)), "and gives what its work gives");
  x.copy_(host + 1);
  replay();
  check(y.cpu().equal(wanted(host + 1)), "of what lies there now");
  is_clean("repeating");
  x.add_(1);
  violates({"a race", "of standin:0 reads Float [4, 4]"}, [&] { replay(); });
  wait();
  weight = at::Tensor();
  violates({"a recorded aten::mul reads memory that was given back"}, [&] { replay(); });
  int64_t held = accelerator::memory(0).reserved;
  recording.reset();
  y = at::Tensor();
  at::getDeviceAllocator(at::kPrivateUse1)->emptyCache();
  check(accelerator::memory(0).reserved < held, "a recording's memory goes with it");
  refuses("non-default stream", [] { accelerator::Recording().begin(); });
}

}  // namespace

int main() {
  c10::InferenceMode inference;
  test_numbers();
  test_host();
  test_mixing();
  test_races();
  test_memory_in_use();
  test_copies();
  test_memory();
  test_lost();
  test_recording();
  check(accelerator::violations().empty(), "nothing else was violated");
  return 0;
}
