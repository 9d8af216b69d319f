"""Imported first by every script here: the oracle runs offline, quietly, on one thread and without gradients."""
import os

os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", TRANSFORMERS_VERBOSITY="error", DIFFUSERS_VERBOSITY="error")

import torch

torch.set_num_threads(1)
torch.set_grad_enabled(False)

TEST_DATA = os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../tests/data"))
