# SPDX-License-Identifier: MIT
"""What media_features makes of generated pixels and samples, held against Pillow,
torchvision and torchaudio. Pixels are the same bit by bit. For sound the references
compute weights of filters in F32; to Whisper's features in double, ours are ten times
nearer.
Usage: media_reference.py TOOL"""
import math
import os
import subprocess
import sys
import tempfile

import numpy as np
import torch
import torchaudio
import torchaudio.compliance.kaldi as kaldi
from PIL import Image
from torchvision import transforms

TOOL = sys.argv[1]
SCRATCH = tempfile.TemporaryDirectory()
GRAY8, RGB8, RGBA8, NV12, PCM16, PCM_F32, MOTION_F32 = 1, 2, 3, 4, 5, 6, 7
RANDOM = np.random.default_rng(5)
failures = []


def features(recipe, data, **fields):
    source = os.path.join(SCRATCH.name, "in")
    result = os.path.join(SCRATCH.name, "out")
    with open(source, "wb") as file:
        file.write(data)
    words = [f"{name}={value}" for name, value in fields.items()]
    ran = subprocess.run([TOOL, recipe, source, result, *words], check=True, capture_output=True)
    return np.fromfile(result, np.float32).reshape(int(ran.stdout), -1)


def compare(what, made, wanted, tolerance):
    wanted = np.asarray(wanted, np.float32).reshape(made.shape)
    error = float(np.abs(made - wanted).max())
    print(f"{what}: largest difference {error:.2e}, allowed {tolerance:.0e}")
    if not error <= tolerance:
        failures.append(what)


def picture(width, height, mode):
    """Noise on slopes: every frequency, and every byte."""
    channels = {"L": 1, "RGB": 3, "RGBA": 4}[mode]
    y, x = np.mgrid[0:height, 0:width]
    slopes = (x * 255 / max(width - 1, 1) + y * 97 / max(height - 1, 1))[..., None]
    noise = RANDOM.integers(0, 160, (height, width, channels))
    return ((slopes + noise) % 256).astype(np.uint8).squeeze()


def images():
    mean, std = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    bicubic = transforms.InterpolationMode.BICUBIC
    steps = [transforms.Resize(224, bicubic), transforms.CenterCrop(224), transforms.ToTensor()]
    clip = transforms.Compose([*steps, transforms.Normalize(mean, std)])
    digits = transforms.Compose([transforms.Resize(28, bicubic), transforms.CenterCrop(28),
                                 transforms.ToTensor(), transforms.Normalize(0.1307, 0.3081)])
    linear = transforms.InterpolationMode.BILINEAR
    ends = [transforms.CenterCrop(224), transforms.ToTensor(),
            transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))]
    bilinear = transforms.Compose([transforms.Resize(256, linear), *ends])
    stretched = transforms.Compose([transforms.Resize((256, 256), linear), *ends])
    sizes = [(500, 375), (375, 500), (224, 224), (223, 301), (301, 223), (640, 479), (225, 224),
             (17, 19), (40, 1), (3, 70), (1600, 1203)]
    for width, height in sizes:
        for mode, kind in [("L", GRAY8), ("RGB", RGB8), ("RGBA", RGBA8)]:
            pixels = picture(width, height, mode).reshape(height, width, -1)
            image = Image.fromarray(pixels.squeeze(2) if mode == "L" else pixels, mode)
            shape = {"width": width, "height": height, "kind": kind,
                     "stride": width * pixels.shape[2]}
            made = features("clip:224", pixels.tobytes(), **shape)
            compare(f"{mode} {width} x {height}", made, clip(image.convert("RGB")), 0)
            if mode == "RGB":
                made = features("bilinear:224", pixels.tobytes(), **shape)
                compare(f"RGB {width} x {height}, bilinear", made, bilinear(image), 0)
                made = features("stretched:224", pixels.tobytes(), **shape)
                compare(f"RGB {width} x {height}, stretched", made, stretched(image), 0)
            if mode != "RGBA":
                made = features("mnist:28", pixels.tobytes(), **shape)
                compare(f"{mode} {width} x {height}, digits", made, digits(image.convert("L")), 0)


def waves(samples, rate, seed):
    """Two tones, a sweep that swells, and noise."""
    t = np.arange(samples) / rate
    noise = np.random.default_rng(seed).standard_normal(samples) * 0.02
    sweep = np.sin(2 * np.pi * (200 + 900 * t) * t) * 0.2 * np.minimum(t, 1)
    return (0.3 * np.sin(2 * np.pi * 440 * t) + 0.1 * np.sin(2 * np.pi * 3100 * t + 1)
            + sweep + noise + 0.05).astype(np.float32)


def imagebind_clip(clip):
    clip = clip - clip.mean()
    bank = kaldi.fbank(clip[None], htk_compat=True, sample_frequency=16000, use_energy=False,
                       window_type="hanning", num_mel_bins=128, dither=0.0, frame_length=25,
                       frame_shift=10).T
    behind = max(204 - bank.shape[1], 0)
    return (torch.nn.functional.pad(bank, (0, behind))[:, :204] + 4.268) / 9.138


def imagebind_sound():
    for samples in (16000, 32000, 32001, 57123, 160000):
        sound = waves(samples, 16000, samples)
        last = max(samples - 32000, 0)
        starts = [last * i // 2 for i in range(3)]
        wanted = [imagebind_clip(torch.from_numpy(sound[at:at + 32000])) for at in starts]
        made = features("imagebind-audio", sound.tobytes(), kind=PCM_F32, channels=1,
                        samples=samples, rate_hz=16000)
        compare(f"ImageBind, {samples} samples", made, torch.stack(wanted), 5e-4)
    # Quiet sound of 16 bits, in two channels.
    left = (waves(40000, 16000, 1) * 400).astype(np.int16)
    right = (waves(40000, 16000, 2) * 300).astype(np.int16)
    mono = (left.astype(np.float32) + right) / 2 / 32768
    wanted = [imagebind_clip(torch.from_numpy(mono[at:at + 32000])) for at in (0, 4000, 8000)]
    made = features("imagebind-audio", np.stack([left, right], 1).tobytes(), kind=PCM16,
                    channels=2, samples=40000, rate_hz=16000)
    compare("ImageBind, stereo of 16 bits", made, torch.stack(wanted), 5e-4)


def whisper(sound, bins, samples):
    audio = torch.zeros(samples)
    kept = torch.from_numpy(sound)[:samples]
    audio[:len(kept)] = kept
    spectrum = torch.stft(audio, 400, 160, window=torch.hann_window(400), return_complex=True)
    power = spectrum[:, :-1].abs() ** 2
    bank = torchaudio.functional.melscale_fbanks(201, 0, 8000, bins, 16000, "slaney", "slaney")
    log = torch.clamp(bank.T @ power, min=1e-10).log10()
    return (torch.maximum(log, log.max() - 8) + 4) / 4


def whisper_sound():
    for seconds in (1, 12.3456, 30, 33):
        sound = waves(int(seconds * 16000), 16000, 9)
        for bins in (80, 128):
            made = features(f"whisper:{bins}:3000", sound.tobytes(), kind=PCM_F32, channels=1,
                            samples=len(sound), rate_hz=16000)
            compare(f"Whisper, {bins} bins, {seconds} s", made, whisper(sound, bins, 480000), 5e-4)


def mfcc_sound():
    sound = waves(14000, 16000, 3)
    audio = torch.zeros(16000)
    audio[:14000] = torch.from_numpy(sound)
    frames = audio.unfold(0, 480, 160) * torch.hann_window(480)
    magnitude = torch.fft.rfft(frames, 512).abs()
    bank, _ = kaldi.get_mel_banks(80, 512, 16000, 20, 7600, 100, -500, 1.0)
    log = torch.clamp(magnitude[:, :256] @ bank.T, min=1e-12).log()
    wanted = log @ torchaudio.functional.create_dct(40, 80, "ortho")
    made = features("mfcc", sound.tobytes(), kind=PCM_F32, channels=1, samples=14000,
                    rate_hz=16000)
    compare("cepstrum", made, wanted, 1e-3)


def resampled_sound():
    """Tones below 7 kHz, sampled at another rate and at the recipe's own."""
    def tones(rate, seconds):
        t = np.arange(int(rate * seconds)) / rate
        return sum(np.sin(2 * np.pi * hz * t + hz) * 0.1
                   for hz in (150, 700, 1900, 4100, 6800)).astype(np.float32)

    own = features("imagebind-audio", tones(16000, 3).tobytes(), kind=PCM_F32, channels=1,
                   samples=48000, rate_hz=16000).reshape(3, 128, 204)
    for rate in (8000 * 6, 44100, 22050, 96000):
        other = tones(rate, 3)
        made = features("imagebind-audio", other.tobytes(), kind=PCM_F32, channels=1,
                        samples=len(other), rate_hz=rate).reshape(own.shape)
        # Bins that a tone is in: the others hold what is left of windows and filters.
        loud = own > own.max() - 8 / 9.138
        error = float(np.abs(made - own)[loud].max())
        print(f"resampled from {rate} Hz: {error:.2e} in {loud.mean():.0%} of the bins")
        if error > 5e-3:
            failures.append(f"resampled from {rate}")
        theirs = torchaudio.functional.resample(torch.from_numpy(other), rate, 16000,
                                                lowpass_filter_width=64, rolloff=0.95)
        theirs = features("imagebind-audio", theirs.numpy()[:48000].tobytes(), kind=PCM_F32,
                          channels=1, samples=48000, rate_hz=16000).reshape(own.shape)
        print(f"  torchaudio's own: {float(np.abs(theirs - own)[loud].max()):.2e}")


def motion():
    rows = RANDOM.standard_normal((250, 6)).astype(np.float32)
    made = features("limu-bert", rows.tobytes(), kind=MOTION_F32, channels=6, samples=250)
    compare("LIMU-BERT, two windows", made, rows[:240].reshape(2, 120, 6), 0)
    rows = RANDOM.standard_normal((2000, 6)).astype(np.float32)
    made = features("imagebind-motion", rows.tobytes(), kind=MOTION_F32, channels=6, samples=2000,
                    rate_hz=400)
    compare("ImageBind, motion", made, rows.T, 0)


for part in (images, imagebind_sound, whisper_sound, mfcc_sound, resampled_sound, motion):
    part()
if failures:
    sys.exit("differ: " + ", ".join(failures))
