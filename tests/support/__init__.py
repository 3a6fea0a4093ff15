"""What the tests share: small servers, small files, small trainings."""
