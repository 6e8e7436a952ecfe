// Every operation that is not said elsewhere: the CPU's, over the device's memory. Half precision is computed
// in float32 and rounded.
#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/native/TypeProperties.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_strided.h>
#include <torch/library.h>

#include <set>
#include <unordered_map>

#include "copies.h"
#include "kernel.h"
#include "memory.h"

namespace accelerator {
namespace {

// Whose results' shapes only the device knows, so that the host waits for it.
const std::set<std::string>& shaped_by_numbers() {
  static const auto* const names =
      new std::set<std::string>{"aten::nonzero", "aten::masked_select", "aten::_unique2", "aten::unique_dim",
                                "aten::unique_consecutive"};
  return *names;
}

bool is_half(at::ScalarType dtype) { return at::isReducedFloatingType(dtype); }

// The tensors of a value, in order, each replaced by what `change` makes of it.
template <typename Change>
c10::IValue changed(const c10::IValue& value, Change&& change) {
  if (value.isTensor()) return value.toTensor().defined() ? c10::IValue(change(value.toTensor())) : value;
  if (value.isTensorList()) {
    c10::List<at::Tensor> list;
    c10::List<at::Tensor> given = value.toTensorList();
    for (const at::Tensor& tensor : given) list.push_back(change(tensor));
    return list;
  }
  if (value.isOptionalTensorList()) {
    c10::List<std::optional<at::Tensor>> list;
    c10::List<std::optional<at::Tensor>> given = value.toOptionalTensorList();
    for (const std::optional<at::Tensor>& tensor : given)
      list.push_back(tensor ? std::optional<at::Tensor>(change(*tensor)) : std::nullopt);
    return list;
  }
  return value;
}

template <typename Visit>
void each_tensor(const c10::IValue& value, Visit&& visit) {
  changed(value, [&](const at::Tensor& tensor) {
    visit(tensor);
    return tensor;
  });
}

bool is_written(const c10::Argument& argument) {
  return argument.alias_info() && argument.alias_info()->isWrite();
}

// A call of an operation, on the CPU's tensors over the device's memory. It holds no memory of the device,
// and can be made again.
class Call {
 public:
  Call(const c10::OperatorHandle& operation, const c10::Stack& arguments) : operation_(operation) {
    at::native::ResultTypeState types;
    std::unordered_map<at::TensorImpl*, at::Tensor> seen;  // the same tensor stays the same
    for (size_t i = 0; i < arguments.size(); ++i) {
      const c10::Argument& argument = operation.schema().arguments()[i];
      if (argument.name() == "dtype" && arguments[i].isInt())
        result_ = static_cast<at::ScalarType>(arguments[i].toInt());
      arguments_.push_back(changed(arguments[i], [&](const at::Tensor& tensor) {
        if (tensor.is_floating_point() && !is_written(argument))
          types = at::native::update_result_type_state(tensor, types);
        if (!is_on_device(tensor)) {  // a number, which is taken now
          at::Tensor number = tensor.clone();
          number.unsafeGetTensorImpl()->set_wrapped_number(tensor.unsafeGetTensorImpl()->is_wrapped_number());
          return number;
        }
        at::Tensor& open = seen[tensor.unsafeGetTensorImpl()];
        if (!open.defined()) open = opened(tensor);
        return open;
      }));
      if (arguments[i].isDevice()) arguments_.back() = c10::Device(at::kCPU);
    }
    at::ScalarType type = at::native::result_type(types);
    if (result_ == at::ScalarType::Undefined && is_half(type)) result_ = type;
  }

  const c10::Stack& arguments() const { return arguments_; }

  c10::Stack run() const {
    at::AutoDispatchBelowADInplaceOrView below;
    std::unordered_map<at::TensorImpl*, at::Tensor> wide;
    c10::Stack stack;
    for (const c10::IValue& argument : arguments_) {
      stack.push_back(changed(argument, [&](const at::Tensor& tensor) {
        if (!is_half(tensor.scalar_type())) return tensor;
        at::Tensor& one = wide[tensor.unsafeGetTensorImpl()];
        if (!one.defined()) one = tensor.to(at::kFloat);
        return one;
      }));
    }
    operation_.callBoxed(&stack);
    for (size_t i = 0; i < arguments_.size(); ++i) {
      if (!is_written(operation_.schema().arguments()[i])) continue;
      each_tensor(arguments_[i], [&](const at::Tensor& tensor) {
        if (!is_half(tensor.scalar_type())) return;
        const at::Tensor& from = wide.at(tensor.unsafeGetTensorImpl());
        if (tensor.numel() == 0) tensor.resize_(from.sizes());
        tensor.copy_(from);
      });
    }
    // A result in float32 of what was half is rounded.
    bool rounds = is_half(result_) && !wide.empty();
    for (c10::IValue& value : stack) {
      value = changed(value, [&](const at::Tensor& tensor) {
        return rounds && tensor.scalar_type() == at::kFloat ? tensor.to(result_) : tensor;
      });
    }
    return stack;
  }

 private:
  c10::OperatorHandle operation_;
  c10::Stack arguments_;
  at::ScalarType result_ = at::ScalarType::Undefined;  // of the results, if it is half
};

// What an operation was given to write into, of no numbers, takes the size that the CPU gave it; the numbers
// follow.
bool take_sizes(const c10::FunctionSchema& schema, const c10::Stack& given, const c10::Stack& computed) {
  bool taken = false;
  for (size_t i = 0; i < given.size(); ++i) {
    if (!is_written(schema.arguments()[i]) || !given[i].isTensor()) continue;
    const at::Tensor &tensor = given[i].toTensor(), &from = computed[i].toTensor();
    if (tensor.numel() > 0 || from.sizes() == tensor.sizes()) continue;
    tensor.resize_(from.sizes());
    tensor.unsafeGetTensorImpl()->set_sizes_and_strides(from.sizes(), from.strides());
    taken = true;
  }
  return taken;
}

// The device of the tensors; throws if they are of several. Of the host there may be numbers.
c10::Device device_of(const c10::FunctionSchema& schema, const c10::Stack& arguments) {
  std::optional<c10::Device> device;
  for (const c10::IValue& argument : arguments) {
    each_tensor(argument, [&](const at::Tensor& tensor) {
      if (!device && is_on_device(tensor)) device = tensor.device();
    });
    if (!device && argument.isDevice() && argument.toDevice().type() == type) device = argument.toDevice();
  }
  if (!device || !device->has_index())
    device = c10::Device(type, static_cast<c10::DeviceIndex>(current_device()));
  for (size_t i = 0; i < arguments.size(); ++i) {
    each_tensor(arguments[i], [&](const at::Tensor& tensor) {
      bool number = tensor.is_cpu() && tensor.dim() == 0 && !is_written(schema.arguments()[i]);
      TORCH_CHECK(!tensor.defined() || tensor.device() == *device || number,
                  "Expected all tensors to be on the same device, but found at least two devices, ", *device,
                  " and ", tensor.device(), "! (when checking argument for argument ",
                  schema.arguments()[i].name(), " in method ", schema.name(), ")");
    });
  }
  return *device;
}

// Memory on the device for what the CPU gave.
at::Tensor like_on(c10::Device device, const at::Tensor& tensor) {
  auto options = tensor.options().device(device);
  return tensor.is_non_overlapping_and_dense() ? at::empty_strided(tensor.sizes(), tensor.strides(), options)
                                               : at::empty(tensor.sizes(), options);
}

void compute(const c10::OperatorHandle& operation, c10::Stack* stack) {
  const c10::FunctionSchema& schema = operation.schema();
  auto count = static_cast<std::ptrdiff_t>(schema.arguments().size());
  c10::Stack arguments(stack->end() - count, stack->end());
  c10::Device device = device_of(schema, arguments);
  Call call(operation, arguments);
  Kernel kernel(schema.name().c_str(), device);
  bool empty = false;  // whether there is nothing yet in what is to be written
  for (size_t i = 0; i < arguments.size(); ++i) {
    each_tensor(arguments[i], [&](const at::Tensor& tensor) {
      if (!is_on_device(tensor)) return;
      if (is_written(schema.arguments()[i]) && tensor.numel() == 0)
        empty = true;
      else if (is_written(schema.arguments()[i]))
        kernel.writes(tensor);
      else
        kernel.reads(tensor);
    });
  }

  // What was given to be written is given back; a view that is not known as one would be a copy.
  std::vector<std::optional<c10::IValue>> given;
  bool makes = false, tells = shaped_by_numbers().contains(schema.name());
  for (const c10::Argument& result : schema.returns()) {
    given.emplace_back();
    if (!result.alias_info()) {
      bool tensors = result.type()->kind() == c10::TypeKind::TensorType ||
                     result.type()->kind() == c10::TypeKind::ListType;
      (tensors ? makes : tells) = true;
      continue;
    }
    TORCH_CHECK(result.alias_info()->isWrite(), device_name, " has no view ", schema.name());
    for (size_t i = 0; i < arguments.size(); ++i) {
      const c10::AliasInfo* alias = schema.arguments()[i].alias_info();
      if (alias && alias->beforeSets() == result.alias_info()->beforeSets()) given.back() = arguments[i];
    }
  }
  if (tells) synchronize(kernel.stream());

  c10::Stack results;
  if (makes || tells) {
    // If it is noted, its results are wanted for their shapes alone.
    kernel.is_recorded() ? void(results = call.run()) : kernel.run([&] { results = call.run(); });
  }
  c10::Stack made;
  std::vector<std::pair<size_t, at::Tensor>> copies;  // into the opened tensors, of which result
  for (size_t i = 0; i < given.size(); ++i) {
    if (given[i]) {
      made.push_back(*given[i]);
      continue;
    }
    made.push_back(changed(results.at(i), [&](const at::Tensor& tensor) {
      at::Tensor there = like_on(device, tensor);
      kernel.writes(there);
      copies.emplace_back(i, opened(there));
      return there;
    }));
  }
  auto copy_all = [copies](const c10::Stack& from) {
    auto copy = copies.begin();
    for (size_t i = 0; i < from.size(); ++i) {
      if (copy == copies.end() || copy->first != i) continue;
      each_tensor(from[i], [&](const at::Tensor& tensor) { (copy++)->second.copy_(tensor); });
    }
  };
  if (empty) {
    kernel.is_recorded() ? void(call.run()) : kernel.run([&] { call.run(); });
    if (take_sizes(schema, arguments, call.arguments())) {
      Call before = call;
      call = Call(operation, arguments);
      for (size_t i = 0; i < arguments.size(); ++i) {
        if (!is_written(schema.arguments()[i])) continue;
        kernel.writes(arguments[i].toTensor());
        if (!kernel.is_recorded()) call.arguments()[i].toTensor().copy_(before.arguments()[i].toTensor());
      }
    }
    if (kernel.is_recorded()) kernel.run([call] { call.run(); });
  } else if (kernel.is_recorded())
    kernel.run([call, copy_all] { copy_all(call.run()); });
  else if (makes)
    copy_all(results);
  else if (!tells)
    kernel.run([&] { call.run(); });
  stack->erase(stack->end() - count, stack->end());
  for (c10::IValue& value : made) stack->push_back(std::move(value));
}

auto boxed() { return torch::CppFunction::makeFromBoxedFunction<&compute>(); }

TORCH_LIBRARY_IMPL(_, PrivateUse1, library) { library.fallback(boxed()); }

// Of these libtorch has other ways, in more steps, for devices that it does not know: a GPU has a kernel for
// each.
TORCH_LIBRARY_IMPL(aten, PrivateUse1, library) {
  for (const char* name :
       {"convolution", "native_group_norm", "native_layer_norm", "scaled_dot_product_attention"})
    library.impl(name, boxed());
}

}  // namespace
}  // namespace accelerator
