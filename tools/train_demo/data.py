"""The packed token files on the device, and the rows of each training step."""
import json
import lzma
import multiprocessing.pool

import numpy as np
import torch

from make_tokens import COUNTED
from sources import TOPICS

TEMPER = 0.7  # a topic's share of the rows is its share of the text to this power


def _read(path, dtype):
    return np.frombuffer(lzma.decompress(path.read_bytes()), dtype=dtype).astype(np.int32)


class Data:
    def __init__(self, pack, device):
        files = [(f"{topic}.{part}", np.uint16) for part in ("train", "valid") for topic in TOPICS]
        files += [("pairs", np.uint16), ("pairs.starts", np.uint32)]
        with multiprocessing.pool.ThreadPool() as pool:  # lzma lets go of the interpreter
            read = dict(zip([name for name, _ in files], pool.starmap(
                _read, [(pack / f"{name}.xz", dtype) for name, dtype in files])))
        self.device = device
        self.valid = {topic: torch.from_numpy(read[f"{topic}.valid"].astype(np.int64)) for topic in TOPICS}
        self.valid_bytes = json.loads((pack / "valid.json").read_text())
        self.held_out = json.loads(lzma.decompress((pack / "heldout.json.xz").read_bytes()))
        plain = [read[f"{topic}.train"] for topic in TOPICS]
        self.sizes = torch.tensor([len(p) for p in plain], device=device)
        self.bases = torch.tensor(np.cumsum([0] + [len(p) for p in plain]), device=device)
        self.tokens = torch.from_numpy(np.concatenate(plain + [read["pairs"]])).to(device)
        starts = read["pairs.starts"].astype(np.int64)
        self.starts = torch.from_numpy(starts).to(device) + self.bases[-1]
        self.shares = self.sizes.double() ** TEMPER
        self.shares = (self.shares / self.shares.sum()).float()

    def rows(self, seed, count, length, pairs_share):
        """(tokens, targets, counted) of a step, [count, length] each: rows of plain text by topic, and of pairs."""
        random = torch.Generator(device=self.device).manual_seed(seed)
        pairs = int(count * pairs_share)
        topics = torch.multinomial(self.shares, count - pairs, replacement=True, generator=random)
        where = torch.rand(count - pairs, device=self.device, generator=random, dtype=torch.float64)
        first = self.bases[topics] + (where * (self.sizes[topics] - length - 1)).long()
        chosen = torch.randint(len(self.starts), (pairs,), device=self.device, generator=random)
        begin = self.starts[chosen].clamp(max=len(self.tokens) - length - 1)
        first = torch.cat((first, begin))
        block = self.tokens[first[:, None] + torch.arange(length + 1, device=self.device)].long()
        counted = (block[:, 1:] & COUNTED) != 0
        counted[:count - pairs] = True
        block &= COUNTED - 1
        return block[:, :-1].contiguous(), block[:, 1:].contiguous(), counted
