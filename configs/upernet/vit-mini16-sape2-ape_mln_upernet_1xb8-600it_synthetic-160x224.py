_base_ = "./vit-mini16-nope_mln_upernet_1xb8-600it_synthetic-160x224.py"

model = dict(backbone=dict(position_encodings=[dict(type="SaPE2"), dict(type="LearnedAPE")]))
