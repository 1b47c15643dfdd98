"""What `make test-cards` runs: asks the Hub whether it takes model cards, which it does without a token."""
import sys

from huggingface_hub import ModelCard

faults = 0
for file in sys.argv[1:]:
    try:
        ModelCard.load(file).validate()
    except ValueError as e:
        faults += 1
        print(f'{file}: {e}')
print(f'The Hub takes {len(sys.argv) - 1 - faults} of {len(sys.argv) - 1} model cards')
sys.exit(faults > 0 or len(sys.argv) == 1)
