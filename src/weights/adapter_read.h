/* The entries of a file of adapters, and the layers that they are for by their names. */
#ifndef FLUX1_WEIGHTS_ADAPTER_READ_H
#define FLUX1_WEIGHTS_ADAPTER_READ_H

#include "weights/adapter.h"

/* Fills f's changes and terms (in no order, `base` NULL) from its store. */
flux1_status adapter_read(adapter_file *f, flux1_error *err);

void adapter_add_stray(adapter_file *f, const char *name);

/* Black Forest Labs' control LoRAs take a picture beside the latent; they are told by their tensors' names. */
flux1_status adapter_refuse_control(const char *path, flux1_error *err);

#endif
