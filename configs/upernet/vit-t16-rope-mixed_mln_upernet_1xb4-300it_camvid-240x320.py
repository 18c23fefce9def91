_base_ = "./vit-t16-nope_mln_upernet_1xb4-300it_camvid-240x320.py"

model = dict(backbone=dict(position_encodings=[dict(type="RoPE", variant="mixed")]))
