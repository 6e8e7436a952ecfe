# The addon for `npm run prebuilds`, where prebuildify runs node-gyp. It links no libtorch; the core, which does, is CMake's.
# A clone's own build is CMake's alone: CMakeLists.txt has the same sources and definitions.
{
  "targets": [
    {
      "target_name": "torchreel",
      "sources": ["<!@(ls native/addon/*.cc)", "native/core/process/fault_order.cc"],
      "include_dirs": ["<!(node -p \"require('node-api-headers').include_dir\")", "native/core"],
      "dependencies": ["<!(node -p \"require('node-addon-api').targets\"):node_addon_api_except_all"],
      "defines": [
        "NAPI_VERSION=8",
        "NODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS",
        # The sha256 of the header between addon and core: they refuse each other unless both have the same.
        "TORCHREEL_CORE_ABI=0x<!(sha256sum native/core/torchreel_core.h | cut -c1-16)u"
      ],
      "cflags_cc": ["-std=c++20", "-O3", "-fvisibility=hidden", "-fvisibility-inlines-hidden", "-Wall", "-Wextra", "-Werror"],
      "cflags_cc!": ["-fno-rtti"],
      "libraries": ["-ldl"]
    }
  ]
}
