_base_ = "./vit-mini16-nope_1xb32-10e_synthetic-64x96.py"

model = dict(backbone=dict(position_encodings=[dict(type="RoPE", variant="mixed")]))
