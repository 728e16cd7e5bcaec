#!/usr/bin/env bash
# The codec's tests on ARMv7, under emulation, in debug and in release: its golden vectors must come out the same there.
# Speeds that an emulator shows say nothing of a Pi.
#
# Needs rustup, arm-linux-gnueabihf-gcc (Debian: gcc-arm-linux-gnueabihf) and qemu-arm-static (qemu-user-static).
set -euo pipefail
cd "$(dirname "$0")/.."

target=armv7-unknown-linux-gnueabihf
for tool in rustup arm-linux-gnueabihf-gcc qemu-arm-static; do
    command -v "$tool" >/dev/null || { echo "$tool is not installed" >&2; exit 1; }
done
[ -d "$(rustc --print target-libdir --target "$target")" ] || rustup target add "$target"

# Static, so that the emulator needs no libraries of that system.
export CARGO_TARGET_ARMV7_UNKNOWN_LINUX_GNUEABIHF_LINKER=arm-linux-gnueabihf-gcc
export CARGO_TARGET_ARMV7_UNKNOWN_LINUX_GNUEABIHF_RUNNER=qemu-arm-static
export CARGO_TARGET_ARMV7_UNKNOWN_LINUX_GNUEABIHF_RUSTFLAGS="-C target-feature=+crt-static"
cargo test --target "$target" -p ropeway-codec --tests
cargo test --target "$target" -p ropeway-codec --tests --release
