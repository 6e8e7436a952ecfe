"""The measured program in Python: makes the same videos with diffusers. task.ts defines its input and output.

    python bench/peer.py TASK      TASK: a Task as JSON; with "compile": true the denoiser goes through torch.compile
"""

import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

begun = time.time()


def milliseconds() -> float:
    return time.perf_counter() * 1000


def main() -> None:
    task: dict[str, Any] = json.loads(sys.argv[1])
    since_start = lambda: time.time() * 1000 - task["started"]  # noqa: E731

    at = milliseconds()
    import diffusers
    import torch
    from diffusers import DiffusionPipeline, DPMSolverMultistepScheduler
    from diffusers.utils import export_to_video

    import_ms = milliseconds() - at
    if task.get("threads"):
        torch.set_num_threads(task["threads"])

    at = milliseconds()
    device = task["device"]
    wan = (Path(task["model"]) / "transformer").exists()
    dtype = getattr(torch, task["dtype"])
    # For Wan, diffusers' guide takes the VAE in float32 in every dtype, as torchreel does.
    dtypes = {"default": dtype, "vae": torch.float32} if wan else dtype
    pipeline = DiffusionPipeline.from_pretrained(task["model"], torch_dtype=dtypes)
    if not wan:
        pipeline.scheduler = DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    if task["offload"] == "model":
        pipeline.enable_model_cpu_offload(device=device)
    elif task["offload"] == "sequential":
        pipeline.enable_sequential_cpu_offload(device=device)
    else:
        pipeline.to(device)
    if task.get("compile"):
        name = "transformer" if wan else "unet"
        setattr(pipeline, name, torch.compile(getattr(pipeline, name)))
    load_ms = milliseconds() - at

    def settle() -> None:
        """Waits for the device at the end of a stage, so that times include the work and not only its launch."""
        if device.startswith("cuda"):
            torch.cuda.synchronize()

    encode_prompt = pipeline.encode_prompt
    encoded = 0.0

    def timed_encode_prompt(*arguments: Any, **named: Any) -> Any:
        nonlocal encoded
        result = encode_prompt(*arguments, **named)
        settle()
        encoded = milliseconds()
        return result

    pipeline.encode_prompt = timed_encode_prompt

    videos: list[dict[str, Any]] = []
    peak = 0
    first_step_ms = 0.0
    for run in range(task["runs"] + 1):
        ends: list[float] = []

        def after_step(step: int, *_: Any) -> None:
            nonlocal first_step_ms
            if step == task["steps"] - 1 or (run == 0 and step == 0):
                settle()
            ends.append(milliseconds())
            if run == 0 and step == 0:
                first_step_ms = since_start()

        def after_wan_step(_: Any, step: int, __: Any, named: dict[str, Any]) -> dict[str, Any]:
            after_step(step)
            return named

        faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        started = milliseconds()
        frames = pipeline(
            task["prompt"] if run == 0 else f"{task['prompt']}, take {run}",
            num_inference_steps=task["steps"],
            num_frames=task["frames"],
            guidance_scale=task["guidanceScale"],
            height=task.get("height"),
            width=task.get("width"),
            generator=torch.Generator().manual_seed(task["seed"]),
            **({"callback_on_step_end": after_wan_step} if wan else {"callback": after_step}),
        ).frames[0]
        decoded = milliseconds()
        if run == 0 and task.get("frameFile"):
            Path(task["frameFile"]).write_bytes((frames * 255).round().astype("uint8").tobytes())
        saving = milliseconds()
        export_to_video(frames, task["output"], fps=16 if wan else 8)
        written = milliseconds()
        usage = resource.getrusage(resource.RUSAGE_SELF)
        peak = peak or usage.ru_maxrss * 1024
        videos.append(
            {
                "encodeMs": encoded - started,
                "steps": [end - begin for begin, end in zip([encoded, *ends], ends)],
                "loopMs": ends[-1] - encoded,
                "decodeMs": decoded - ends[-1],
                "writeMs": written - saving,
                "sinceStartMs": since_start(),
                "pageFaults": usage.ru_minflt - faults,
                "eventLoopDelayMs": None,
            }
        )
    measured = {
        "startMs": begun * 1000 - task["started"],
        "importMs": import_ms,
        "loadMs": load_ms,
        "firstStepMs": first_step_ms,
        "videos": videos,
        "peakBytes": peak,
        "deviceBytes": torch.cuda.max_memory_reserved() if device.startswith("cuda") else None,
        "processorMs": time.process_time() * 1000,
        "versions": f"diffusers {diffusers.__version__}, torch {torch.__version__}",
        "device": device,
        "dtype": task["dtype"],
    }
    print(json.dumps(measured))


main()
