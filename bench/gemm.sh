#!/bin/sh
# Compiles bench/gemm.cc with the CPU backend's inner loops and runs it: sh bench/gemm.sh
set -e
cd "$(dirname "$0")/.."
out=$(mktemp -d)
trap 'rm -r "$out"' EXIT
flags='-std=c++20 -O3 -Wall -Wextra -ffp-contract=off -Icsrc'
g++ $flags -c csrc/cpu/simd/simd.cc -o "$out/simd.o"
g++ $flags -c csrc/cpu/simd/portable.cc -o "$out/portable.o"
g++ $flags -mavx2 -mfma -mf16c -c csrc/cpu/simd/avx2.cc -o "$out/avx2.o"
g++ $flags -mavx512f -mavx512bw -mavx512vl -mavx512dq -mfma -mf16c -c csrc/cpu/simd/avx512.cc -o "$out/avx512.o"
g++ $flags bench/gemm.cc "$out"/*.o -o "$out/gemm"
"$out/gemm"
