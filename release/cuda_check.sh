#!/usr/bin/env bash
# release/cuda_check.sh [PYTHON]: builds against the torch that a Python has, runs all tests with it on the CPU and, where
# that torch sees a GPU, on CUDA, and prints the devices, the parity with the CPU and times.
# Takes CMake, a C++20 compiler, node and node_modules (`npm ci`); npm itself is not needed.
set -uo pipefail
cd "$(dirname "$0")/.."
python=${1:-python3}
results=()

step() { # NAME COMMAND...
  echo "== $1"
  if "${@:2}"; then results+=("ok      $1"); else results+=("FAILED  $1"); fi
}

TORCHREEL_LIBTORCH=$("$python" -c 'import importlib.util as u; print(list(u.find_spec("torch").submodule_search_locations)[0])') || exit 1
export TORCHREEL_LIBTORCH
"$python" - <<'PYTHON' || exit 1
import torch
print(f"torch {torch.__version__}, CUDA {torch.version.cuda}")
for i in range(torch.cuda.device_count()):
    gpu = torch.cuda.get_device_properties(i)
    print(f"cuda:{i}: {gpu.name}, {gpu.total_memory / 1e9:.1f} GB, compute capability {gpu.major}.{gpu.minor}")
if not torch.cuda.is_available():
    print("no GPU that this torch can use: the CPU's part alone")
PYTHON
cuda=$("$python" -c 'import torch; print(int(torch.cuda.is_available()))')

tests() { # every test file; the tarball's takes npm
  local files=(build/test/*.test.js)
  if ! command -v npm >/dev/null; then
    echo "no npm here: tarball.test.js is left out"
    files=("${files[@]/build\/test\/tarball.test.js/}")
  fi
  # shellcheck disable=SC2068 # an entry that was taken out is empty
  node --test --test-reporter=dot ${files[@]}
}
on_cuda() {
  # float32 is float32: without this cuDNN computes convolutions in TF32, with 10 bits.
  NVIDIA_TF32_OVERRIDE=0 TORCHREEL_TEST_DEVICE=cuda \
    NODE_OPTIONS="--import=file://$PWD/build/test/support/on_device.js" "$@"
}
compile() {
  local tsc=node_modules/typescript/bin/tsc
  rm -rf dist && node $tsc -p lib && node node_modules/@rollup/wasm-node/dist/bin/rollup --config --silent &&
    node $tsc -p test && node $tsc -p bench
}
build() {
  cmake -S . -B build/cuda-check -DTORCHREEL_LIBTORCH="$TORCHREEL_LIBTORCH" >/dev/null &&
    cmake --build build/cuda-check --parallel "$(nproc)"
}

step 'compile TypeScript' compile
step 'build against this torch' build
step "the core's tests" ctest --test-dir build/cuda-check --output-on-failure
step 'doctor' node dist/cli/main.js doctor
step 'tests on the CPU' env CUDA_VISIBLE_DEVICES= bash -c "$(declare -f tests); tests"
if [ "$cuda" = 1 ]; then step 'tests on CUDA' on_cuda bash -c "$(declare -f tests); tests"; fi
step 'parity and times' node build/bench/devices.js
printf '%s\n' '== summary' "${results[@]}"
if [ "$cuda" != 1 ]; then echo 'not run: the tests on CUDA'; fi
[[ ! "${results[*]}" =~ FAILED ]]
