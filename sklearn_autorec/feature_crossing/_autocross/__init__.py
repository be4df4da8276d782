"""AutoCross and the field-wise models that judge its candidates."""
