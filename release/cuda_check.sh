#!/usr/bin/env bash
# release/cuda_check.sh [PYTHON [PART...]]: builds against the torch of a Python, runs all tests with it on the CPU and, if that
# torch sees a GPU, on CUDA. Prints the devices, the parity with the CPU, times, and a comparison with diffusers if that
# Python has it.
# PART: build, tests, parity, package, bench, in this order; default: all. Each needs minutes, so run one at a time on a machine
# that is rented for a short time or limits the time of a command. `package` compiles the UNet (models/export.py --compile), and
# `bench` measures that too, if it exists.
# Needs CMake, a C++20 compiler, CUDA's toolkit for captureGraph, and `node` on the PATH with node_modules (`npm ci`), which may be
# copied from another machine: npm itself is not needed.
set -uo pipefail
cd "$(dirname "$0")/.."
python=${1:-python3}
parts=" ${*:2} "
[[ $parts =~ [a-z] ]] || parts=' build tests parity package bench '
export TORCHREEL_BUILD=${TORCHREEL_BUILD:-$PWD/build/cuda-check}
results=()

step() { # NAME COMMAND...
  echo "== $1"
  local started=$SECONDS
  if "${@:2}"; then results+=("ok      $1, $((SECONDS - started)) s"); else results+=("FAILED  $1"); fi
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
    print("no GPU that this torch can use: only the CPU is tested")
PYTHON
cuda=$("$python" -c 'import torch; print(int(torch.cuda.is_available()))')
peer=()
if "$python" -c 'import diffusers' 2>/dev/null; then peer=(--peer "$python"); else echo "no diffusers in $python: torchreel alone"; fi

tests() { # every test file; the tarball's needs npm
  local files
  mapfile -t files < <(find build/test -name '*.test.js' -not -path '*/torture/*')
  if ! command -v npm >/dev/null; then
    echo "no npm here: tarball.test.js is left out"
    files=("${files[@]/build\/test\/project\/tarball.test.js/}")
  fi
  # shellcheck disable=SC2068 # a removed entry is empty
  node --test --test-reporter=dot ${files[@]}
}
on_cuda() {
  # float32 is float32: without this cuDNN computes convolutions in TF32, with 10 bits.
  NVIDIA_TF32_OVERRIDE=0 TORCHREEL_TEST_DEVICE=cuda \
    NODE_OPTIONS="--import=file://$PWD/build/test/support/on_device.js" "$@"
}
recorded() { # those that compare numbers and change weights, with captureGraph
  node --test --test-reporter=dot build/test/{call/parity,call/calls,adapters/adapters}.test.js
}
compile() {
  local tsc=node_modules/typescript/bin/tsc
  rm -rf dist && node $tsc -p lib && node node_modules/@rollup/wasm-node/dist/bin/rollup --config --silent &&
    node $tsc -p test && node $tsc -p bench
}
build() {
  cmake -S . -B "$TORCHREEL_BUILD" -DTORCHREEL_LIBTORCH="$TORCHREEL_LIBTORCH" \
    -DCMAKE_UNITY_BUILD=ON -DCMAKE_UNITY_BUILD_BATCH_SIZE=10 >/dev/null &&
    cmake --build "$TORCHREEL_BUILD" --parallel "$(nproc)" --target all core_tests benches
}
bench() { node build/bench/measure.js --rounds 1 "$@"; }
package() { # MODEL EXPORT'S OPTIONS...
  local folder
  folder=$(node --input-type=module -e "
    const { benchModel } = await import('$PWD/build/bench/models.js')
    console.log((await benchModel('$1')).folder)") &&
    "$python" models/export.py "$folder" --compile "$compiled" "${@:2}"
}
compiled=build/bench/cuda-check.pt2

if [[ $parts == *' build '* ]]; then
  step 'compile TypeScript' compile
  step 'build against this torch' build
fi
if [[ $parts == *' tests '* ]]; then
  step "the core's tests" ctest --test-dir "$TORCHREEL_BUILD" --output-on-failure
  step 'doctor' node dist/cli/main.js doctor
  if [ "$cuda" = 1 ]; then
    step "the device's checks on CUDA" on_cuda "$TORCHREEL_BUILD/test/native/device_test" test/fixtures
    step 'tests on CUDA' on_cuda bash -c "$(declare -f tests); tests"
    step 'tests on CUDA with captureGraph' on_cuda env TORCHREEL_TEST_CAPTURE_GRAPH=1 bash -c "$(declare -f recorded); recorded"
  fi
  step 'tests on the CPU' env CUDA_VISIBLE_DEVICES= bash -c "$(declare -f tests); tests"
fi
if [[ $parts == *' parity '* ]]; then step 'parity and times' node build/bench/devices.js; fi
if [[ $parts == *' package '* ]]; then
  rm -f "$compiled" # from an earlier run: `bench` must not measure it if this one fails
  if [ "$cuda" = 1 ]; then
    step 'compile the UNet for this GPU' package random-320 --device cuda
  else
    step 'compile a UNet for this CPU' package test/fixtures/tiny/checkpoint --frames 2
  fi
fi
if [[ $parts == *' bench '* ]]; then
  beside=("${peer[@]}")
  if [ -e "$compiled" ]; then beside+=(--compiled-denoiser "$compiled"); fi
  if [ "$cuda" = 1 ]; then
    # The whole model, random weights, float16, 16 frames of 256 x 256: against eager a call is to be 2.5 times as fast, against
    # torch.compile 1.2 times, and to take 0.8 s on an H100; offload is to cost 15%.
    step 'beside diffusers on CUDA' bench --model random-320 --device cuda --steps 25 --frames 16 --runs 3 \
      --variant capture-graph --variant offload "${beside[@]}" ${peer:+--compile} --output build/bench/cuda
  else
    step 'beside diffusers on the CPU' bench --model test/fixtures/tiny/checkpoint --steps 2 --frames 2 --runs 1 \
      --variant offload "${beside[@]}" --output build/bench/cuda
  fi
fi
printf '%s\n' '== summary' "${results[@]}"
if [ "$cuda" != 1 ]; then echo 'not run: anything on CUDA'; fi
[[ ! "${results[*]}" =~ FAILED ]]
