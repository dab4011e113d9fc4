"""What one does with a model beside training it: profile it, check its gradients, compile beforehand."""
