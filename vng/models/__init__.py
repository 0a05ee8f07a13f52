"""Networks only, in Hugging Face form: they know neither datasets nor training."""
