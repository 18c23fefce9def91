_base_ = "./vit-s16-nope_8xb128-300e_in1k-224.py"

model = dict(backbone=dict(position_encodings=[dict(type="IRPE")]))
