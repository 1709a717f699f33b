"""How the location index learns what nobody asked: by sampling, and by what trusts tell of their new studies (C7)."""
