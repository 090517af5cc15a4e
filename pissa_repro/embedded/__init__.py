"""The offline default: generated word problems and the small base model pre-trained here."""
