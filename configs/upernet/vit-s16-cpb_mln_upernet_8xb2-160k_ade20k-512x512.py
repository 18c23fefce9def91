_base_ = "./vit-s16-nope_mln_upernet_8xb2-160k_ade20k-512x512.py"

model = dict(backbone=dict(position_encodings=[dict(type="LogCPB")]))
