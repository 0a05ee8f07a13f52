"""RF-VNG: ReferFormer with noun-conditioned queries (VidLN, Sec. 4.2)."""
