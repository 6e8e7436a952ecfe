# For `node-gyp rebuild`: hands over to the one build there is, CMake's.
{
  "targets": [
    {
      "target_name": "torchreel",
      "type": "none",
      "actions": [
        {
          "action_name": "cmake",
          "inputs": ["CMakeLists.txt"],
          "outputs": ["<(module_root_dir)/build/Release/torchreel.node"],
          "action": ["npm", "run", "build", "--prefix", "<(module_root_dir)"]
        }
      ]
    }
  ]
}
