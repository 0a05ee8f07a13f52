"""Networks only, in Hugging Face form: they depend on neither datasets nor training."""
