"""Trains the model `shapes` from scratch and writes it in the published layout.

    python models/train_shapes.py RUN_FOLDER [--output models/shapes] [--processes 2] [--steps 6000] [--device cuda]

RUN_FOLDER keeps the complete state, and the same command resumes from it: first the VAE, then the text encoder, then the
UNet. UNet training writes its progress to log.txt, sample sheets (sheet_*.png) and, every few minutes, the published files.
"""

import argparse
import os
import random
import sys
import time
from pathlib import Path
from typing import Any

import torch
import torch.distributed as distributed
import torch.multiprocessing as multiprocessing
from torch import Tensor, nn

from definitions.autoencoder_kl import AutoencoderKL, AutoencoderKLConfiguration
from definitions.clip_text import CLIPTextConfiguration, CLIPTextModel
from definitions.unet3d import UNet3DConditionModel, UNet3DConfiguration
from training.clips import ClipPool, fixed_wishes
from training.diffusion import Auxiliary, diffusion_loss, sample
from training.judge import agreement
from training.optimizer import Optimizer, initialise, schedule
from training.publication import CONFIGURATIONS, INDEX, publish, write_sheet
from training.text import train_text_encoder
from training.vae import decode, normalise_latents, random_frames, signal_to_noise, vae_loss
from training.vocabulary import Vocabulary
from training.world import FRAMES

VAE_STEPS = 2850
VAE_BATCH = 8
AVERAGE = 0.998
"""The decay per step of the exponential moving average of the UNet's weights."""

FADE = 0.7
"""The fraction of the training at which the auxiliary losses have faded out."""


JUDGED = 8
"""Clips that are drawn and judged at each snapshot."""

GUIDANCE: float = INDEX["_guidance_scale"]
"""The guidance of the judged clips. A larger one makes colours bleed."""


def save(path: Path, state: Any) -> None:
    """Writes the file completely or not at all."""
    torch.save(state, path.with_suffix(".partial"))
    os.replace(path.with_suffix(".partial"), path)


def make_vae() -> AutoencoderKL:
    return AutoencoderKL(AutoencoderKLConfiguration.from_config(CONFIGURATIONS["vae"]))


def make_unet() -> UNet3DConditionModel:
    return UNet3DConditionModel(UNet3DConfiguration.from_config(CONFIGURATIONS["unet"]))


def trained_vae(run: Path, device: torch.device) -> AutoencoderKL:
    """The run's VAE. Trains it first if necessary (about seven minutes on one core)."""
    vae = make_vae().to(device)
    path, partial = run / "vae.pt", run / "vae_state.pt"
    if path.exists():
        vae.load_state_dict(torch.load(path, map_location=device))
        return vae.eval().requires_grad_(False)
    torch.manual_seed(0)
    initialise(vae)
    optimizer = Optimizer(vae, 4e-3, 2e-3, ("conv_in", "conv_out", "quant_conv"))
    first = 0
    if partial.exists():
        state = torch.load(partial, map_location=device)
        vae.load_state_dict(state["vae"])
        optimizer.load_state_dict(state["optimizer"])
        first = state["step"]
    check = random_frames(random.Random("check"), 64)[2].to(device)
    for step in range(first, VAE_STEPS):
        torch.manual_seed(step)
        scenes, covered, images = random_frames(random.Random(step), VAE_BATCH)
        loss, parts = vae_loss(vae, scenes, covered.to(device), images.to(device))
        loss.backward()
        optimizer.step(schedule(step / VAE_STEPS))
        if step % 100 == 99:
            print(f"vae {step + 1}/{VAE_STEPS}  {parts}  {signal_to_noise(vae, check):.1f} dB", flush=True)
            save(partial, {"vae": vae.state_dict(), "optimizer": optimizer.state_dict(), "step": step + 1})
    normalise_latents(vae, random_frames(random.Random("latents"), 256)[2].to(device))
    save(path, vae.state_dict())
    return vae.eval().requires_grad_(False)


def trained_text_encoder(run: Path, vocabulary: Vocabulary, device: torch.device) -> CLIPTextModel:
    configuration = CLIPTextConfiguration.from_config(CONFIGURATIONS["text_encoder"])
    path = run / "text.pt"
    if path.exists():
        encoder = CLIPTextModel(configuration).to(device)
        encoder.load_state_dict(torch.load(path, map_location=device))
        return encoder.eval().requires_grad_(False)
    torch.manual_seed(0)
    encoder = train_text_encoder(configuration, vocabulary, device)
    save(path, encoder.state_dict())
    return encoder


class UNetTraining:
    """The training in one process: its own clips, with gradients averaged over all processes before each step."""

    def __init__(self, run: Path, rank: int, processes: int, arguments: argparse.Namespace) -> None:
        self.run, self.rank, self.processes = run, rank, processes
        self.steps: int = arguments.steps
        self.batch: int = arguments.batch
        self.pause: float = arguments.minutes_between_snapshots * 60
        self.output: Path = arguments.output
        self.device = torch.device(arguments.device)
        self.vocabulary = Vocabulary()
        self.vae = trained_vae(run, self.device)
        self.text_encoder = trained_text_encoder(run, self.vocabulary, self.device)
        torch.manual_seed(0)
        self.unet = make_unet()
        initialise(self.unet)
        self.unet.to(self.device)
        width = CONFIGURATIONS["unet"]["block_out_channels"][-1]
        self.auxiliary = Auxiliary([(16, width), (16, width)]).to(self.device)
        self.average = make_unet().to(self.device).requires_grad_(False)
        self.average.load_state_dict(self.unet.state_dict())
        both = nn.ModuleDict({"unet": self.unet, "auxiliary": self.auxiliary})
        self.optimizer = Optimizer(both, 3e-3, 1.5e-3, ("conv_in", "conv_out", "auxiliary", "time_embedding"))
        self.step = 0
        self.pool = ClipPool(self.vae, rank)
        if (run / "unet.pt").exists():
            self.resume()
        self.pool.grow(256, self.device)

    def resume(self) -> None:
        state = torch.load(self.run / "unet.pt", map_location=self.device)
        self.unet.load_state_dict(state["unet"])
        self.average.load_state_dict(state["average"])
        self.auxiliary.load_state_dict(state["auxiliary"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = state["step"]
        self.pool.grow(3 * self.step, self.device)

    def encode(self, captions: list[str]) -> Tensor:
        ids = torch.tensor([self.vocabulary.encode(caption) for caption in captions], device=self.device)
        with torch.no_grad():
            return self.text_encoder(ids, 0)

    def train(self) -> None:
        seen = time.monotonic()
        totals = [0.0] * 4
        while self.step < self.steps:
            progress = self.step / self.steps
            self.pool.grow(3, self.device)
            batch = self.pool.batch(self.step, self.batch, progress < 0.35)
            generator = torch.Generator().manual_seed(self.step * self.processes + self.rank)
            loss, features = diffusion_loss(self.unet, batch.latents.to(self.device), self.encode(batch.captions), generator)
            place, kind = self.auxiliary(features, batch.centres.to(self.device), batch.classes.to(self.device))
            help_ = max(0.0, 1 - progress / FADE)
            (loss + help_ * (0.1 * place + 0.02 * kind)).backward()
            self.average_gradients()
            norm = self.optimizer.step(schedule(progress, 0.01))
            self.step += 1
            decay = min(AVERAGE, (1 + self.step) / (10 + self.step))
            torch._foreach_lerp_(list(self.average.parameters()), list(self.unet.parameters()), 1 - decay)
            values = (loss.item(), place.item(), kind.item(), norm)
            totals = [total + value for total, value in zip(totals, values)]
            if self.rank == 0 and self.step % 25 == 0:
                names = ("loss", "place", "kind", "norm")
                parts = "  ".join(f"{name} {total / 25:.4f}" for name, total in zip(names, totals))
                self.report(f"unet {self.step}/{self.steps}  {parts}  pool {len(self.pool.scenes)}")
                totals = [0.0] * 4
            if self.rank == 0 and (time.monotonic() - seen > self.pause or self.step == self.steps):
                self.snapshot()
                seen = time.monotonic()

    def average_gradients(self) -> None:
        if self.processes == 1:
            return
        gradients = [parameter.grad for parameter in self.optimizer.parameters if parameter.grad is not None]
        together = torch.cat([gradient.flatten() for gradient in gradients])
        distributed.all_reduce(together)
        together /= self.processes
        for gradient, part in zip(gradients, together.split([gradient.numel() for gradient in gradients])):
            gradient.copy_(part.view_as(gradient))

    def report(self, line: str) -> None:
        line = f"{time.strftime('%H:%M:%S')}  {line}"
        print(line, flush=True)
        with open(self.run / "log.txt", "a") as file:
            file.write(line + "\n")

    def snapshot(self) -> None:
        """Saves the state, publishes the averaged weights, and judges and draws clips of the averaged weights."""
        networks = {"unet": self.unet, "average": self.average, "auxiliary": self.auxiliary}
        states: dict[str, Any] = {name: network.state_dict() for name, network in networks.items()}
        save(self.run / "unet.pt", {**states, "optimizer": self.optimizer.state_dict(), "step": self.step})
        publish(self.output, self.vocabulary, self.text_encoder, self.average, self.vae)
        wishes, captions = fixed_wishes(0, JUDGED)
        latents = sample(self.average, self.encode(captions), self.encode([""]), FRAMES, GUIDANCE, 25, self.step)
        clips = torch.stack([decode(self.vae, clip.transpose(0, 1)) for clip in latents])
        scores = "  ".join(f"{key} {right}/{said}" for key, (right, said) in agreement(clips, wishes).items())
        self.report(f"judge {self.step}  {scores}")
        write_sheet(self.run / f"sheet_{self.step:05}.png", clips)


def work(rank: int, processes: int, arguments: argparse.Namespace) -> None:
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // processes) if processes == 1 else 1)
    if processes > 1:
        store = arguments.run / "rendezvous"
        distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=processes)
    UNetTraining(arguments.run, rank, processes, arguments).train()
    if processes > 1:
        distributed.destroy_process_group()


def main() -> int:
    parser = argparse.ArgumentParser(description="Train the model shapes from scratch.")
    parser.add_argument("run", type=Path, help="folder for the state of the training")
    parser.add_argument("--output", type=Path, help="folder for the published files [RUN/shapes]")
    parser.add_argument("--steps", type=int, default=6000, help="steps of the UNet, and the end of its schedule [6000]")
    parser.add_argument("--batch", type=int, default=8, help="clips of 16 frames per process and step [8]")
    parser.add_argument("--processes", type=int, default=1, help="on a CPU, one per core is fastest [1]")
    parser.add_argument("--device", default="cpu", help="cpu or cuda [cpu]")
    parser.add_argument("--minutes-between-snapshots", type=float, default=4)
    arguments = parser.parse_args()
    arguments.run = arguments.run.resolve()
    arguments.run.mkdir(parents=True, exist_ok=True)
    arguments.output = arguments.output or arguments.run / "shapes"
    device = torch.device(arguments.device)
    torch.set_num_threads(1 if arguments.processes > 1 else os.cpu_count() or 1)
    trained_vae(arguments.run, device)
    trained_text_encoder(arguments.run, Vocabulary(), device)
    if arguments.processes == 1:
        work(0, 1, arguments)
        return 0
    (arguments.run / "rendezvous").unlink(missing_ok=True)
    multiprocessing.spawn(work, (arguments.processes, arguments), nprocs=arguments.processes)
    return 0


if __name__ == "__main__":
    sys.exit(main())
